"""The plots' script: Vega, Vega-Lite and Vega-Embed as one text, out of the vl-convert library."""

from __future__ import annotations

from importlib.metadata import version

from platformdirs import user_cache_path

from assay.bench.records.documents import write_whole

_EXPOSE = "window.vegaEmbed = vegaEmbed;"  # it brings the expression interpreter, so that the page needs no eval


def load_plot_script() -> str:
    """JavaScript that defines `vegaEmbed`. Bundled once for each version of vl-convert, since that takes a second, then read from the cache.

    Raises ModuleNotFoundError where vl-convert-python is not installed.
    """
    import vl_convert  # 37 MB that a host where cases run need not have

    cached = user_cache_path("assay") / f"vega-embed-{version('vl-convert-python')}.js"
    if not cached.is_file():
        script = vl_convert.javascript_bundle(_EXPOSE)
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cached, script)
    return cached.read_text(encoding="utf-8")
