// The table of records: filters, sorting, pages of rows.

const PAGE = 50;
// text: sorts by letters; quantity: [value, low, high]; same: told in one line instead where all rows agree. Numbers sort from large to small first
const COLUMNS = [
  { key: 'name', title: 'workload / variant', text: true },
  { key: 'outcome', title: 'outcome', text: true },
  { key: 'position', title: 'rank', show: (row) => row.rank },
  { key: 'quality', title: 'quality', quantity: true },
  { key: 'speed', title: 'samples/s', quantity: true },
  { key: 'data', title: 'data', text: true },
  { key: 'problem', title: 'test', text: true, same: true },
  { key: 'phase', title: 'phase', text: true, same: true },
  { key: 'precision', title: 'precision', text: true, same: true },
  { key: 'device', title: 'device', text: true, same: true },
  { key: 'attention', title: 'attention', text: true, same: true },
  { key: 'division', title: 'division', text: true, same: true },
  { key: 'preset', title: 'preset', text: true, same: true },
  { key: 'image', title: 'image', text: true, same: true },
  { key: 'batch', title: 'batch' },
  { key: 'wall', title: 'training s', quantity: true },
  { key: 'best', title: 'to best s', quantity: true },
  { key: 'moment', title: 'to documented s', text: true },
  { key: 'documented', title: 'documented', text: true },
  { key: 'allocated', title: 'allocated GB', quantity: true },
  { key: 'reserved', title: 'reserved GB', quantity: true },
  { key: 'device_memory', title: 'device GB', quantity: true },
  { key: 'rss', title: 'process GB', quantity: true },
  { key: 'energy', title: 'J per 1,000', quantity: true },
  { key: 'mfu', title: 'MFU %', quantity: true },
  { key: 'ended', title: 'ended (UTC)', show: (row) => formatTime(row.ended) },
];
const FILTERS = [
  ['family', 'Family'], ['device', 'Device'], ['precision', 'Precision'], ['attention', 'Attention'],
  ['phase', 'Phase'], ['preset', 'Preset'], ['outcome', 'Outcome'], ['source', 'Data'],
];
const SEARCHED = ['name', 'family', 'data', 'device', 'metric', 'run', 'reason', 'emulated'];

class Table {
  constructor(store, changed) {
    this.store = store;
    this.changed = changed;
    this.sorted = null; // { key, down }
    this.page = 0;
    const held = (column) => store.rows.some((row) => (column.quantity ? row[column.key][0] !== null : row[column.key] !== '' && row[column.key] !== null));
    const agree = (column) => column.same && store.rows.every((row) => row[column.key] === store.rows[0][column.key]);
    this.columns = COLUMNS.filter((column) => held(column) && !agree(column));
    this.agreed = COLUMNS.filter((column) => held(column) && agree(column)).map(({ key, title }) => `${title} ${store.rows[0][key]}`);
    this.form = document.getElementById('filters');
    this.#makeFilters();
    this.#makeHead();
    this.update();
  }

  #makeFilters() {
    for (const [key, title] of FILTERS) {
      const found = [...new Set(this.store.rows.map((row) => row[key]))].filter((value) => value !== '').sort();
      if (found.length < 2) continue;
      const options = [element('option', { value: '' }, 'all'), ...found.map((value) => element('option', { value }, value))];
      this.form.append(element('label', {}, `${title} `, element('select', { name: key }, ...options)));
    }
    this.form.append(element('label', {}, 'Search ', element('input', { type: 'search', name: 'text' })));
    const older = this.store.rows.some((row) => !row.latest);
    if (older) this.form.append(element('label', { class: 'chip' }, element('input', { type: 'checkbox', name: 'older' }), ' older runs too'));
    this.form.append(element('button', { type: 'reset' }, 'Clear'));
    this.form.addEventListener('input', () => this.#restart());
    this.form.addEventListener('reset', () => setTimeout(() => this.#restart()));
    this.form.addEventListener('submit', (event) => event.preventDefault());
  }

  #restart() {
    this.page = 0;
    this.update();
  }

  #makeHead() {
    const cells = this.columns.map((column) => {
      const button = element('button', { type: 'button', onclick: () => this.#sort(column) }, column.title);
      return element('th', { scope: 'col', 'data-key': column.key, 'aria-sort': 'none', class: column.text ? null : 'number' }, button);
    });
    document.querySelector('#table thead').replaceChildren(element('tr', {}, ...cells));
  }

  #sort(column) {
    const again = this.sorted?.key === column.key;
    this.sorted = { key: column.key, down: again ? !this.sorted.down : !column.text && column.key !== 'position' };
    this.#restart();
  }

  #filter() {
    const wanted = new FormData(this.form);
    const words = (wanted.get('text') ?? '').toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = FILTERS.map(([key]) => [key, wanted.get(key)]).filter(([, value]) => value);
    return this.store.rows.filter((row) => {
      if (!row.latest && !wanted.get('older')) return false;
      if (chosen.some(([key, value]) => row[key] !== value)) return false;
      return words.every((word) => SEARCHED.some((key) => row[key].toLowerCase().includes(word)));
    });
  }

  #order(rows) {
    if (!this.sorted) return rows;
    const { key, down } = this.sorted;
    const valueOf = (row) => (Array.isArray(row[key]) ? row[key][0] : row[key]);
    const missing = (value) => value === null || value === '';
    return [...rows].sort((a, b) => {
      const [x, y] = [valueOf(a), valueOf(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a.index - b.index; // what is not there stands last either way
      const order = typeof x === 'string' ? x.localeCompare(y, 'en') : x - y;
      return (down ? -order : order) || a.index - b.index;
    });
  }

  update() {
    this.shown = this.#order(this.#filter());
    for (const cell of document.querySelectorAll('#table thead th')) {
      const mine = cell.dataset.key === this.sorted?.key;
      cell.setAttribute('aria-sort', mine ? (this.sorted.down ? 'descending' : 'ascending') : 'none');
    }
    this.draw(this.page * PAGE, PAGE);
    const all = this.store.rows.length;
    document.getElementById('count').textContent = `${formatNumber(this.shown.length)} of ${formatNumber(all)} records${this.agreed.length ? `, all of ${this.agreed.join(', ')}` : ''}`;
    this.changed(this.shown);
  }

  draw(start, count) {
    const rows = this.shown.slice(start, start + count).map((row) => this.#makeRow(row));
    const none = element('tr', {}, element('td', { colspan: this.columns.length }, this.store.rows.length
      ? 'No record passes these filters.' : 'No records yet: python -m bench run makes some.'));
    document.querySelector('#table tbody').replaceChildren(...(rows.length ? rows : [none]));
    this.#makePages();
  }

  #makeRow(row) {
    const cells = this.columns.map((column) => {
      const content = this.#makeCell(row, column);
      if (column.key === 'name') return element('th', { scope: 'row' }, ...content);
      return element('td', { class: column.text ? null : 'number' }, ...content);
    });
    const open = ({ target, currentTarget }) => {
      if (target.closest('a') || !getSelection().isCollapsed) return; // who selects text wants to copy it
      const link = currentTarget.querySelector('a');
      link.focus(); // where the focus returns to when the record closes
      link.click();
    };
    return element('tr', { 'data-outcome': row.outcome, onclick: open }, ...cells);
  }

  #makeCell(row, column) {
    if (column.key === 'name') return [element('a', { href: this.store.anchor(row) }, row.name), row.emulated ? badge('emulated', 'emulated') : '', row.older_source ? badge('older', 'older source') : ''];
    if (column.key === 'data') return [cut(row.data), row.synthetic ? badge('twin', 'synthetic twin') : ''];
    if (column.key === 'outcome') return [element('span', { class: 'outcome', 'data-outcome': row.outcome, title: row.reason || null }, row.outcome)];
    if (column.key === 'quality' && row.quality[0] !== null) {
      const random = row.weights === 'random' ? [badge('twin', 'random weights')] : [];
      return [element('span', { class: 'metric cut' }, row.metric), ' ', formatQuantity(row.quality), ...random];
    }
    if (column.quantity) return [formatQuantity(row[column.key])];
    if (column.show) return [column.show(row)];
    return row[column.key] === null ? [] : [column.text ? cut(row[column.key]) : String(row[column.key])];
  }

  #makePages() {
    const pages = Math.ceil(this.shown.length / PAGE);
    const turn = (by) => () => {
      this.page += by;
      this.draw(this.page * PAGE, PAGE);
      document.querySelector('#pages button:not([disabled])')?.focus();
    };
    const parts = pages < 2 ? [] : [
      element('button', { type: 'button', disabled: this.page === 0, onclick: turn(-1) }, 'Previous'),
      element('span', {}, `page ${this.page + 1} of ${pages}`),
      element('button', { type: 'button', disabled: this.page + 1 >= pages, onclick: turn(1) }, 'Next'),
    ];
    document.getElementById('pages').replaceChildren(...parts);
  }
}
