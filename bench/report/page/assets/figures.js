// Draws the plots with Vega-Embed and keeps them in step with the filters, the controls and the theme.

class Figures {
  #tell;

  constructor(store) {
    this.store = store;
    this.choices = {};
    this.rows = [];
    this.pending = null;
    this.ready = this.#load();
    this.drawn = new Promise((resolve) => { this.#tell = resolve; });
  }

  async #load() {
    const script = element('script');
    script.textContent = await unpackText(document.getElementById('data-plots').textContent); // the page's policy knows its hash
    document.head.append(script);
    for (const row of this.store.rows) row.curves = row.phase === 'train' ? await this.store.curves(row) : null;
  }

  show(rows) {
    this.rows = rows;
    clearTimeout(this.pending);
    this.pending = setTimeout(() => this.draw(), 60);
  }

  async draw() {
    await this.ready;
    const absent = [];
    for (const plot of PLOTS) {
      const controls = this.#choose(plot);
      const made = plot.make(this.rows, this.choices[plot.id], this.store.core);
      // what another choice may show keeps its controls
      if (made.why && controls.some(({ options }) => options.length > 1)) made.stuck = true;
      else if (made.why) absent.push(`${plot.title} Left out: ${made.why}.`);
      await this.#place(plot, controls, made);
    }
    document.getElementById('absent').replaceChildren(...absent.map((line) => element('p', { class: 'absent' }, line)));
    const section = document.getElementById('plots');
    section.dataset.drawn = String(Number(section.dataset.drawn ?? 0) + 1);
    this.#tell();
  }

  // what is chosen stays chosen while the filters leave it possible
  #choose(plot) {
    const controls = plot.controls?.(this.rows, this.store.core) ?? [];
    const before = this.choices[plot.id] ?? {};
    this.choices[plot.id] = Object.fromEntries(controls.map(({ name, options }) => [name, options.includes(before[name]) ? before[name] : options[0]]));
    return controls;
  }

  async #place(plot, controls, made) {
    document.getElementById(`plot-${plot.id}`)?.remove();
    if (made.why && !made.stuck) return;
    const canvas = element('div', { class: 'canvas' });
    const figure = element(
      'figure', { id: `plot-${plot.id}` }, element('h3', {}, plot.title),
      element('div', { class: 'controls' }, ...controls.filter(({ options }) => options.length > 1).map((control) => this.#makeSelect(plot, control))),
      canvas, element('figcaption', {}, made.stuck ? `Nothing to draw: ${made.why}.` : made.answer),
    );
    const next = PLOTS.slice(PLOTS.indexOf(plot) + 1).map(({ id }) => document.getElementById(`plot-${id}`)).find(Boolean);
    document.getElementById('figures').insertBefore(figure, next ?? null);
    if (made.stuck) return;
    const many = (made.spec.layer ?? [made.spec]).some((layer) => (layer.data?.values.length ?? 0) > 1500);
    const spec = { $schema: 'https://vega.github.io/schema/vega-lite/v6.json', width: 'container', autosize: { type: 'fit', contains: 'padding' }, description: `${plot.title} ${made.answer}`, ...made.spec };
    const options = { actions: false, ast: true, renderer: many ? 'canvas' : 'svg', defaultStyle: false, config: this.#readTheme(Math.floor(canvas.clientWidth / (plot.legendWidth ?? 150))), tooltip: { disableDefaultStyle: true, theme: 'own' } };
    await window.vegaEmbed(canvas, spec, options);
  }

  #makeSelect(plot, { name, label, options }) {
    const chosen = this.choices[plot.id][name];
    const select = element('select', { onchange: async (event) => {
      this.choices[plot.id][name] = event.target.value;
      await this.draw();
      document.querySelector(`#plot-${plot.id} select[name="${name}"]`)?.focus();
    }, name }, ...options.map((value) => element('option', { value, selected: value === chosen }, value)));
    return element('label', {}, `${label} `, select);
  }

  #readTheme(columns) {
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, line] = ['--ink', '--soft', '--line'].map((name) => style.getPropertyValue(name).trim());
    return {
      background: 'transparent', font: 'system-ui, sans-serif', view: { stroke: null }, text: { color: ink },
      axis: { labelColor: soft, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: 'normal', labelFontSize: 11 },
      legend: { labelColor: ink, titleColor: ink, labelLimit: 240, columns: Math.max(1, columns) },
      range: { category: ['#0f7db8', '#d97706', '#2a9d5c', '#c0437f', '#7c5cc4', '#b59a00', '#3aa6a6', '#d1495b', '#6b7280', '#8b5e34'] },
    };
  }
}
