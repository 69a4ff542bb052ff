"""The HTML page in a real browser: what people do with it, what a hostile record cannot do, and that it asks nobody for anything."""

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("playwright", reason="no Playwright: it is not in the images, `make .venv/ready` brings it")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Locator, Page, expect, sync_playwright

from assay.bench.case import Outcome, Quantity
from assay.bench.claims.documented import Claim, Claims, Fit
from assay.bench.exchange.imports import Imported, ImportedRow
from assay.bench.formatting.numbers import format_interval
from assay.bench.records.record import Dataset, Environment, Machine, Record
from assay.bench.report.page import Passage, render_page

CHROMIUM = shutil.which("chromium")
FLAGS = [  # no sandbox: tests run as root in containers; the rest keeps the browser itself off the network
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: `apt-get install chromium` brings one")

HASH = "0" * 64
HOSTILE = "<img src=x onerror=\"window.pwned=1\"></script><script>window.pwned=1</script> \u202egnp.exe\u202c {{7*7}} $(touch /tmp/pwned) '; rm -rf ~ #"
REAL = Dataset(name="abag", sha256=HASH, synthetic=False, source="origin", licence="MIT", rows={"train": 700})
A40 = Machine(cpu="Xeon", cores=4, threads=4, memory_bytes=2**34, system="Linux", gpu="NVIDIA A40", gpu_memory_bytes=45 << 30)


def measure(speed: float, *, memory: float | None = None) -> dict[str, Quantity]:
    found = {"samples_per_s": Quantity(speed, "samples/s", 10, speed * 0.9, speed * 1.1), "step_ms": Quantity(1000.0, "ms"), "flops_per_step": Quantity(2e12, "FLOP"), "bytes_per_step": Quantity(5e10, "bytes")}
    return found | ({"device_peak": Quantity(memory, "bytes")} if memory else {})


def rho(value: float) -> dict[str, Quantity]:
    return {"spearman": Quantity(value, "rho", 100, value - 0.013, value + 0.02), "rmse": Quantity(1.3, "pKd")}


def make_records(make_record: Callable[..., Record]) -> list[Record]:
    real: dict[str, Any] = {"machine": A40, "dataset": REAL, "profile": "a40", "run": "a40"}
    names = ("without-gelu", "without-depth", "without-focal")
    points = ((1000.0, 0.6), (2000.0, 0.5), (900.0, 0.4))  # the last is slower and worse than the first
    records = [
        make_record(f"affinity-v2/{name}/train/standard/closed/fp32", sequence=i, measurements=measure(speed, memory=(i + 1) * 1e9), quality=rho(value), conditions={"batch": 32 << i}, **real)
        for i, (name, (speed, value)) in enumerate(zip(names, points, strict=True))
    ]
    environment = Environment(python="3.11", torch="2.13", numpy="2.4", packages_sha256=HASH, git_sha="a" * 40, command=("python", "-m", "bench", "run"))
    curves = {"train_loss": [1 / (1 + i) for i in range(200)], "epoch_end_s": [float(i) for i in range(200)]}
    records += [
        make_record("affinity-v1/documented/train/standard/closed/fp32", run="twins", measurements=measure(123456.0), quality=rho(0.391), curves=curves, environment=environment),
        make_record("affinity-v1/by-complex/train/standard/closed/bf16", run="twins", sequence=1, outcome=Outcome.OOM, reason="out of memory: tried 2 GiB", dataset=None),
        make_record("affinity-v1/esm2/train/standard/closed/fp32", run="twins", sequence=2, older=True, emulated=("gpu: fake NVML",), measurements=measure(5.0), quality=rho(0.1)),
    ]
    records += [make_record(f"filler/variant-{i:03d}/eval/smoke/closed/fp32", run="many", sequence=i) for i in range(90)]
    records[-1] = make_hostile(make_record)
    return records


def make_hostile(make_record: Callable[..., Record]) -> Record:
    huge = {f"{HOSTILE} {i}": Quantity(1.7e308, HOSTILE, 10**18, -1.7e308, 1.7e308, how=HOSTILE * 50) for i in range(200)}
    hostile = make_record(
        "affinity-v1/x/train/standard/closed/fp32",
        dataset=Dataset(name=HOSTILE, sha256="1" * 64, synthetic=False, source=HOSTILE, licence=HOSTILE, rows={HOSTILE: 10**30}, notes=(HOSTILE * 1000,)),
        machine=A40.model_copy(update={"gpu": HOSTILE}),
        environment=Environment(python=HOSTILE, torch=HOSTILE, numpy=HOSTILE, packages_sha256=HASH, git_sha=HOSTILE, image_digest=f"x\n{HOSTILE}", command=(HOSTILE,)),
        measurements=measure(1.0) | huge | {"samples_per_s": Quantity(1.7e308, "samples/s")},
        quality={"spearman": Quantity(-1.7e308, HOSTILE), HOSTILE: Quantity.missing(HOSTILE, HOSTILE)},
        curves={HOSTILE: [1.7e308, -1.7e308], "train_loss": [1e308, 5e-324]},
        recipe={HOSTILE: [{HOSTILE: HOSTILE}] * 300, "depth": {"a": {"b": {"c": HOSTILE}}}},
        conditions={"attention": HOSTILE, "batch": 10**15},
        fitness=(HOSTILE,),
        profile=HOSTILE,
        run="hostile",
    )
    case = hostile.case.model_copy(update={"workload": HOSTILE[:100], "variant": HOSTILE[-100:]})
    return hostile.model_copy(update={"case": case, "run": f"hostile/{HOSTILE}", "sequence": 7})


def make_claims() -> Claims:
    fields: dict[str, Any] = {"workload": "affinity-v2", "metric": "spearman", "direction": "higher", "kind": "measured", "source": "004, <b>table</b>"}
    made = [
        Claim.model_validate(fields | {"id": "good", "value": Decimal("0.60"), "where": {"variant": "without-gelu", "dataset": "abag"}}),
        Claim.model_validate(fields | {"id": "missed", "value": Decimal("0.9"), "where": {"variant": "without-depth", "dataset": "abag"}}),
        Claim.model_validate(fields | {"id": "elsewhere", "value": Decimal("0.7"), "where": {"variant": "without-focal", "dataset": "other"}}),
    ]
    fits = (Fit(workload="affinity-v2", gpus={"A40-48GB": "oom", "M1-16GB": "fast"}),)
    return Claims(claim=tuple(made), fits=fits, words={"spearman": "a Spearman rho"})


@pytest.fixture(scope="module")
def records(make_record: Callable[..., Record]) -> list[Record]:
    return make_records(make_record)


@pytest.fixture(scope="module")
def address(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> str:
    days = ((1, "equivalent"), (2, "regressed"))
    passages = [Passage(datetime(2026, 1, day, tzinfo=UTC), "a/b", f"commit {day}", Quantity(1 + day / 100, "ratio", 10, 1.0, 1.1), verdict) for day, verdict in days]
    path = tmp_path_factory.mktemp("page") / "index.html"
    rows = tuple(ImportedRow(name=name, group="splice", seconds=Quantity(0.5, "s", 12, 0.4, 0.6)) for name in ("their_fastest", HOSTILE))
    imports = [Imported(source="theirs.json", source_sha256=HASH, tool=HOSTILE, measured=datetime(2026, 1, 1, tzinfo=UTC), machine=HOSTILE, commit=None, rows=rows)]
    path.write_text(render_page(records, make_claims(), passages, imports), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Visit:
    """A page that was opened, and everything it should not do."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.set_default_timeout(20_000)  # a machine that runs other tests too is slow
        page.on("console", lambda message: self.faults.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: None if request.url.startswith("file:") else self.faults.append(f"request: {request.url}"))
        page.on("dialog", self._refuse)

    def _refuse(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, address: str) -> Page:
        self.page.goto(address)
        self.page.wait_for_selector("#count:not(:empty)")
        return self.page


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    opened: list[Visit] = []

    def start(**options: Any) -> Visit:
        opened.append(Visit(browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})))
        return opened[-1]

    yield start
    for each in opened:
        each.page.close()
        assert each.faults == []


def names(page: Page) -> list[str]:
    return page.locator("#table tbody th a").all_inner_texts()


def column(page: Page, title: str) -> list[str]:
    heads = page.locator("#table thead th").all_inner_texts()
    return page.locator(f"#table tbody tr > :nth-child({heads.index(title) + 1})").all_inner_texts()


def head(page: Page, title: str) -> Locator:
    return page.locator("#table thead th", has=page.get_by_role("button", name=title, exact=True))


def test_sorting_by_numbers_puts_the_largest_first_and_what_is_missing_last(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    page.locator("#filters [name=text]").fill("affinity")
    page.get_by_role("button", name="samples/s", exact=True).click()
    assert head(page, "samples/s").get_attribute("aria-sort") == "descending"
    speeds = [re.sub(r" \[.*", "", cell) for cell in column(page, "samples/s")]
    assert speeds == ["123,456" if speed == "123,456" else speed for speed in speeds]
    assert speeds[-1] == ""
    assert [float(speed.replace(",", "")) for speed in speeds[:-1]] == sorted((float(speed.replace(",", "")) for speed in speeds[:-1]), reverse=True)
    page.get_by_role("button", name="samples/s", exact=True).click()
    assert head(page, "samples/s").get_attribute("aria-sort") == "ascending"
    assert column(page, "samples/s")[0].startswith("5.0 [")
    assert column(page, "samples/s")[-1] == ""
    page.get_by_role("button", name="workload / variant").click()
    assert names(page) == sorted(names(page))
    assert head(page, "samples/s").get_attribute("aria-sort") == "none"


def test_filters_combine_and_clear(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    count = page.locator("#count")
    assert count.inner_text() == "96 of 96 records, all of division closed"
    page.locator("#filters [name=outcome]").select_option("oom")
    assert names(page) == ["affinity-v1/by-complex"]
    page.locator("#filters [name=outcome]").select_option("")
    page.locator("#filters [name=source]").select_option("real data")
    page.locator("#filters [name=text]").fill("A40 depth")
    assert names(page) == ["affinity-v2/without-depth"]
    assert count.inner_text() == "1 of 96 records, all of division closed"
    page.locator("#filters [name=text]").fill("nothing of this kind")
    assert page.locator("#table tbody").inner_text() == "No record passes these filters."
    page.get_by_role("button", name="Clear").click()
    expect(count).to_have_text("96 of 96 records, all of division closed")


def test_rows_on_twins_of_emulated_machines_and_of_older_source_say_so(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    page.locator("#filters [name=text]").fill("affinity-v1/esm2")
    row = page.locator("#table tbody tr").inner_text()
    assert "emulated" in row
    assert "synthetic twin" in row
    assert "older source" in row
    page.locator("#filters [name=text]").fill("without-gelu")
    row = page.locator("#table tbody tr").inner_text()
    assert "synthetic twin" not in row
    assert "older source" not in row


def test_no_badge_is_cut_off(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    assert page.locator("#table .badge").count() > 10
    inside = "badges => badges.every(badge => badge.getBoundingClientRect().right <= badge.closest('td, th').getBoundingClientRect().right)"
    assert page.locator("#table .badge").evaluate_all(inside)
    assert page.locator("#table td").evaluate_all("cells => cells.every(cell => cell.scrollWidth <= cell.clientWidth)")


def test_long_tables_turn_pages(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    first = names(page)
    assert len(first) == 50
    page.get_by_role("button", name="Next").click()
    assert len(names(page)) == 46
    assert not set(first) & set(names(page))
    assert page.get_by_role("button", name="Next").is_disabled()


def test_a_record_opens_with_provenance_and_the_command_and_closes_with_escape(visit: Callable[..., Visit], address: str, records: list[Record]) -> None:
    page = visit().open(address)
    page.locator("#filters [name=text]").fill("affinity-v1/documented")
    page.get_by_role("link", name="affinity-v1/documented").click()
    dialog = page.get_by_role("dialog", name="affinity-v1/documented")
    dialog.wait_for()
    command = dialog.locator("pre").inner_text()
    assert command.splitlines()[0] == f"git checkout {'a' * 40}"
    assert command.splitlines()[-1] == (
        ".venv/bin/python -m bench run --profile cpu --preset standard --division closed --seed 1 --jobs 1 --select affinity-v1/documented/train/standard/closed/fp32"
    )
    shown = dialog.locator("table tr", has_text="samples_per_s").locator("td").first.inner_text()
    assert shown == format_interval(records[3].measurements["samples_per_s"])
    quality = dialog.locator("table tr", has_text="spearman").locator("td").first.inner_text()
    assert quality == format_interval(records[3].quality["spearman"]) == "0.391 [0.378, 0.411]"
    text = dialog.inner_text()
    for part in ("synthetic twin", "declaration_sha256", HASH, "python -m bench run", "Intel Xeon 6230"):
        assert part in text
    assert dialog.get_by_role("link").get_attribute("href") == "runs/twins/0000-affinity-v1.documented.train.standard.closed.fp32.json"
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.wait_for_url(lambda address: "#" not in address)  # the dialog tells that it has closed a moment after it is hidden
    assert page.evaluate("document.activeElement.textContent") == "affinity-v1/documented"


def test_a_click_anywhere_in_a_row_opens_its_record_but_not_at_the_end_of_a_selection(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    page.locator("#filters [name=text]").fill("affinity-v1/documented")
    cell = page.locator("#table tbody tr").first.locator("td", has_text="abag")
    cell.evaluate("cell => { getSelection().selectAllChildren(cell); cell.click(); }")
    assert page.evaluate("location.hash") == ""
    page.evaluate("getSelection().removeAllRanges()")
    cell.click()
    page.get_by_role("dialog", name="affinity-v1/documented").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_url(lambda address: "#" not in address)
    assert page.evaluate("document.activeElement.textContent") == "affinity-v1/documented"


def test_a_link_to_a_record_opens_it(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address + "#record/twins/1")
    assert "out of memory: tried 2 GiB" in page.get_by_role("dialog", name="affinity-v1/by-complex").inner_text()


def test_keyboard_alone_is_enough(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)

    def focused() -> str:
        return str(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name || document.activeElement.id"))

    def walk(to: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused() == to:
                return
        raise AssertionError(f"{to} cannot be reached with Tab")

    page.keyboard.press("Tab")
    assert focused() == "Skip to the records"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "records"
    walk("text")
    page.keyboard.type("without-g")
    walk("quality")
    page.keyboard.press("Enter")
    assert head(page, "quality").get_attribute("aria-sort") == "descending"
    walk("affinity-v2/without-gelu")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert focused() == "affinity-v2/without-gelu"


class TestPlots:
    def test_answers_follow_from_the_records(self, visit: Callable[..., Visit], address: str) -> None:
        page = visit().open(address)
        page.wait_for_selector("#plots[data-drawn]", state="attached")
        page.locator("#plot-pareto select").select_option("spearman on abag, train, standard, NVIDIA A40")
        page.wait_for_selector("#plots[data-drawn='2']", state="attached")
        front = page.locator("#plot-pareto figcaption").inner_text()
        assert "(1) affinity-v2/without-gelu fp32 closed, (2) affinity-v2/without-depth fp32 closed." in front
        assert "without-focal" not in front
        page.locator("#filters [name=text]").fill("A40")
        page.wait_for_selector("#plots[data-drawn='3']", state="attached")
        assert "The largest takes 3 GB; the smallest card that holds all that ran: 16 GiB: Apple M1, T4" in page.locator("#plot-memory figcaption").inner_text()
        roofline = page.locator("#plot-roofline figcaption").inner_text()
        assert "2,000 GFLOP/s, 5.3 % of its peak" in roofline  # 2 of the A40's 37.4 TFLOP/s
        assert re.search(r"Memory is the nearer roof for (\d+) of \1\.", roofline)  # 40 FLOP a byte, where 696 GB/s feed up to 54
        assert "regressed, ratio 1.02" in page.locator("#plot-gate figcaption").inner_text()
        assert page.locator("#plot-documented figcaption").inner_text().startswith("2 claims.")
        assert page.locator("#plot-memory [role=graphics-document]").count() == 1
        assert "How did training go? Left out: no record here keeps such a curve." in page.locator("#absent").inner_text()

    def test_what_ran_out_of_memory_is_a_cross_and_what_was_emulated_is_no_point_under_the_roof(
        self, visit: Callable[..., Visit], make_record: Callable[..., Record], tmp_path: Path
    ) -> None:
        ran: dict[str, Any] = {"machine": A40, "profile": "a40", "dataset": REAL}
        oom: dict[str, Any] = ran | {"outcome": Outcome.OOM, "reason": "tried 2 GiB"}
        case = "affinity-v2/documented/train/{}/closed/fp32"
        records = [
            make_record(case.format("standard"), sequence=1, **ran, measurements=measure(5.0)),
            make_record(case.format("standard"), sequence=2, batch=512, **oom),
            make_record(case.format("standard"), sequence=3, batch=1024, emulated=("gpu: fake NVML",), **oom),
            make_record(case.format("scale"), sequence=4, emulated=("gpu: fake NVML",), **ran, measurements=measure(9.0)),
        ]
        (tmp_path / "index.html").write_text(render_page(records, Claims()), encoding="utf-8")
        page = visit().open((tmp_path / "index.html").as_uri())
        page.wait_for_selector("#plots[data-drawn]", state="attached")
        assert page.locator("#plot-memory figcaption").inner_text().endswith("Lines are the cards' limits. 1 ran out of memory: a cross at the limit of the card.")
        crosses = page.locator("#plot-memory [aria-roledescription='point'][aria-label*='out of memory']")
        assert [re.sub(r".*batch: (\d+).*more than GB: ([\d.]+).*", r"\1 \2", label) for label in crosses.evaluate_all("marks => marks.map(mark => mark.ariaLabel)")] == ["512 51.539607552"]
        assert "1 of 1." in page.locator("#plot-roofline figcaption").inner_text()

    def test_the_front_keeps_ties_out_and_knows_when_lower_is_better(self, visit: Callable[..., Visit], address: str) -> None:
        page = visit().open(address)
        page.locator("#filters [name=text]").fill("affinity-v1/documented")
        expect(page.locator("#absent")).to_contain_text("needs two records")
        assert page.locator("#plot-curves figcaption").inner_text() == "One training of affinity-v1, first in the table; some on synthetic twins."

    def test_where_no_claim_has_a_verdict_the_others_can_still_be_chosen(self, visit: Callable[..., Visit], records: list[Record], tmp_path: Path) -> None:
        claims = make_claims()
        (tmp_path / "index.html").write_text(render_page(records, claims.model_copy(update={"claim": claims.claim[2:]})), encoding="utf-8")
        page = visit().open((tmp_path / "index.html").as_uri())
        page.wait_for_selector("#plots[data-drawn]", state="attached")
        figure = page.locator("#plot-documented")
        assert figure.locator("figcaption").inner_text() == "Nothing to draw: no claim of this choice has a measured number beside it yet."
        figure.locator("select").select_option("not comparable too")
        page.wait_for_selector("#plots[data-drawn='2']", state="attached")
        assert figure.locator("figcaption").inner_text().startswith("1 claims.")


def test_rows_of_other_tools_stand_apart(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    page.get_by_role("link", name="Imported").click()
    row = page.locator("#imported tbody tr").first
    assert row.locator("th, td").all_inner_texts()[:4] == ["their_fastest", "splice", "0.50 [0.40, 0.60]", "12"]
    assert "Nobody here measured or checked them" in page.locator("#imported").inner_text()
    assert "their_fastest" not in page.locator("#table").inner_text()
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier_for_keyboards_and_screen_readers(visit: Callable[..., Visit], address: str, scheme: Literal["light", "dark"]) -> None:
    page = visit(color_scheme=scheme, bypass_csp=True).open(address)  # the policy lets no foreign script in, not even the auditor's
    page.wait_for_selector("#plots[data-drawn]", state="attached")
    assert find_barriers(page) == []
    page.locator("#table tbody th a").first.click()
    page.get_by_role("dialog").wait_for()
    assert find_barriers(page, "dialog") == []


def find_barriers(page: Page, context: str | None = None) -> list[tuple[str, str]]:
    found = Axe().run(page, context=context).response["violations"]
    return [(barrier["help"], node["html"][:300]) for barrier in found for node in barrier["nodes"]]


class TestHostileRecord:
    def test_nothing_of_it_runs_or_hides(self, visit: Callable[..., Visit], address: str) -> None:
        page = visit().open(address)
        page.wait_for_selector("#plots[data-drawn]", state="attached")
        page.locator("#filters [name=text]").fill("window.pwned")
        page.locator("#table tbody th a").click()
        dialog = page.get_by_role("dialog")
        dialog.wait_for()
        assert page.evaluate("window.pwned") is None
        assert page.locator("img, iframe, object, embed").count() == 0
        text = page.locator("body").inner_text() + dialog.inner_text()
        assert "\u202e" not in text
        assert "{{7*7}}" in text
        assert len(text) < 200_000
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280

    def test_its_command_is_one_word_for_the_shell(self, visit: Callable[..., Visit], address: str) -> None:
        page = visit().open(address)
        page.locator("#filters [name=text]").fill("window.pwned")
        page.locator("#table tbody th a").click()
        lines = page.get_by_role("dialog").locator("pre").inner_text().splitlines()
        active = [line for line in lines if not line.startswith("#")]
        assert len(active) == 1
        assert active[0].startswith(".venv/bin/python -m bench run --profile '<img")


def test_claims_filter_by_verdict_and_words(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    assert page.locator("#claim-count").inner_text() == "3 of 3 claims"
    page.locator("#claim-filters input[value='not comparable']").uncheck()
    assert page.locator("#claim-table tbody tr:visible code").all_inner_texts() == ["missed", "good"]
    page.locator("#claim-filters [name=text]").fill("0.60")
    assert page.locator("#claim-table tbody tr:visible code").all_inner_texts() == ["good"]
    row = page.locator("#claim-good").inner_text()
    assert "The document reports a Spearman rho of 0.60 for affinity-v2, variant without-gelu, on abag." in row
    assert "004, <b>table</b>" in row
    page.locator("#claim-good a").click()
    page.get_by_role("dialog", name="affinity-v2/without-gelu").wait_for()


def test_what_fits_where_stands_beside_what_ran(visit: Callable[..., Visit], address: str) -> None:
    page = visit().open(address)
    cells = page.locator(".fits tbody td").all_inner_texts()
    assert cells == ["oom contradicted ran in 3 GB, train of without-focal, batch 128 on NVIDIA A40", "fast not comparable on another GPU: ran in 3 GB, train of without-focal, batch 128 on NVIDIA A40"]


def test_light_dark_narrow_and_paper(visit: Callable[..., Visit], address: str) -> None:
    page = visit(color_scheme="dark", viewport={"width": 400, "height": 800}).open(address)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 28)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_role("button", name="Theme: system").click()
    assert page.evaluate(background) == "rgb(251, 251, 249)"
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(background) == "rgb(20, 23, 28)"
    page.emulate_media(media="print")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert not page.locator("#filters").is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert len(names(page)) == 96


def test_the_table_fits_on_landscape_paper(visit: Callable[..., Visit], address: str) -> None:
    page = visit(viewport={"width": 1047, "height": 800}).open(address)  # A4 less 2 cm, in CSS pixels
    page.locator("#filters [name=text]").fill("affinity")
    page.emulate_media(media="print")
    assert page.locator("#table").evaluate("table => table.getBoundingClientRect().right") <= 1047


def test_claims_are_readable_without_scripts(browser: Browser, address: str) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(address)
    text = page.locator("body").inner_text()
    assert "LEADERBOARD.md" in text
    assert "a Spearman rho of 0.60 for affinity-v2" in text
    page.context.close()


def test_address_is_a_file(address: str) -> None:
    assert Path(address.removeprefix("file://")).stat().st_size < 2_000_000
