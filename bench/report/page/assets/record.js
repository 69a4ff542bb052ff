// The view of one record: a dialog that the fragment `#record/RUN/NUMBER` opens, so that a link to it can be kept.

const PARTS = [
  ['data', 'Data'], ['conditions', 'Conditions'], ['recipe', 'Recipe'], ['facts', 'Facts of the architecture'], ['machine', 'Machine'],
  ['environment', 'Environment'], ['comparability', 'What must be equal in a record that this one is compared with'],
];

class RecordView {
  constructor(store) {
    this.store = store;
    this.dialog = document.getElementById('record');
    this.dialog.addEventListener('close', () => {
      if (location.hash.startsWith('#record/')) history.pushState(null, '', location.pathname + location.search);
      this.origin?.focus();
    });
    window.addEventListener('hashchange', () => this.follow());
    this.follow();
  }

  async follow() {
    const row = this.store.byAnchor.get(location.hash);
    if (!row) {
      if (this.dialog.open) this.dialog.close();
      return;
    }
    if (!this.dialog.open) this.origin = document.activeElement;
    this.dialog.replaceChildren(...this.#head(row), ...this.#body(row, await this.store.detail(row)));
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
  }

  #head(row) {
    const close = element('button', { type: 'button', class: 'close', onclick: () => this.dialog.close() }, 'Close');
    const marks = [element('span', { class: 'outcome', 'data-outcome': row.outcome }, row.outcome)];
    if (row.synthetic) marks.push(badge('twin', 'synthetic twin: its quality says nothing of real data'));
    if (row.emulated) marks.push(badge('emulated', `emulated: ${row.emulated}`));
    if (row.older_source) marks.push(badge('older', 'older source: what computes or measures has changed since'));
    if (row.weights === 'random') marks.push(badge('twin', 'random weights'));
    return [
      element('div', { class: 'dialog-head' }, element('h2', { id: 'record-title' }, row.name), close),
      element('p', {}, `${row.phase}, ${row.preset}, ${row.division}, ${row.precision} on ${row.device || 'an unrecorded machine'}, ended ${formatTime(row.ended)} UTC `, ...marks),
      row.reason ? element('p', { class: 'note' }, row.reason) : '',
    ].filter(Boolean);
  }

  #body(row, detail) {
    if (!detail) return [element('p', { class: 'note' }, 'This page had no room for its details. ', ...this.#link(`runs/${row.run}/`))];
    const again = element('pre', { tabindex: '0', 'aria-label': 'Commands' }, element('code', {}, detail.commands.join('\n')));
    const copy = element('button', { type: 'button', onclick: (event) => this.#copy(event.target, detail.commands) }, 'Copy');
    const parts = PARTS.filter(([key]) => detail.parts[key]).map(([key, title]) => this.#pairs(title, detail.parts[key]));
    return [
      element('h3', {}, 'Run it again'), again, copy,
      this.#numbers('Quality', 'quality', detail), this.#numbers('Measured', 'measured', detail),
      this.#pairs('Run', detail.parts.run), ...parts,
      element('p', {}, ...this.#link(detail.file)),
    ].filter(Boolean);
  }

  // nothing for a run whose name is not a plain one
  #link(path) {
    return /^runs\/[A-Za-z0-9][\w.-]*\/[\w.%-]*$/.test(path) ? ['The whole record: ', element('a', { href: path }, path)] : [];
  }

  async #copy(button, commands) {
    getSelection().selectAllChildren(this.dialog.querySelector('pre'));
    const done = await navigator.clipboard.writeText(`${commands.join('\n')}\n`).then(() => true, () => false); // a browser may refuse
    button.textContent = done ? 'Copied' : 'Selected: copy it with Ctrl+C';
  }

  #numbers(title, kind, detail) {
    const rows = detail.quantities.filter(([[of]]) => of === kind).map(([[, name, unit, how, reason, n], numbers]) => element(
      'tr', {},
      element('th', { scope: 'row' }, name),
      element('td', { class: 'number' }, numbers[0] === null ? element('span', { class: 'small' }, 'none') : formatQuantity(numbers)),
      element('td', {}, numbers[0] === null ? '' : unit), element('td', { class: 'number' }, numbers[0] === null ? '' : n), element('td', { class: 'small' }, reason || how),
    ));
    if (!rows.length) return '';
    const head = ['name', 'value [95 % interval]', 'unit', 'n', 'how, or why not'].map((text) => element('th', { scope: 'col' }, text));
    return element('section', {}, element('h3', {}, title), element(
      'div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': `${title}, scrolls sideways` },
      element('table', {}, element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...rows)),
    ));
  }

  #pairs(title, pairs) {
    const entries = pairs.map(([label, text]) => element('div', {}, element('dt', {}, label), element('dd', {}, text)));
    return element('section', {}, element('h3', {}, title), element('dl', { class: 'pairs' }, ...entries));
  }
}
