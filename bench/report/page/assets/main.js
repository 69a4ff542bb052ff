// Starts the page.

const THEMES = ['system', 'light', 'dark'];

function startTheme(redraw) {
  const button = document.getElementById('theme');
  button.addEventListener('click', () => {
    const now = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? 'system') + 1) % THEMES.length];
    document.documentElement.dataset.theme = now;
    button.textContent = `Theme: ${now}`;
    redraw();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
}

function startClaims() {
  const form = document.getElementById('claim-filters');
  const rows = [...document.querySelectorAll('#claim-table tbody tr')];
  const update = () => {
    const wanted = new FormData(form);
    const verdicts = wanted.getAll('verdict');
    const words = wanted.get('text').toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !verdicts.includes(row.dataset.verdict) || !words.every((word) => row.textContent.toLowerCase().includes(word));
    document.getElementById('claim-count').textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };
  form.addEventListener('input', update);
  form.addEventListener('submit', (event) => event.preventDefault());
  update();
}

async function start() {
  startClaims();
  const store = await Store.open();
  const figures = new Figures(store);
  const table = new Table(store, (rows) => figures.show(rows));
  new RecordView(store);
  startTheme(() => figures.draw());
  if (/^#[a-z]+$/.test(location.hash)) figures.drawn.then(() => document.querySelector(location.hash)?.scrollIntoView()); // the page has grown since
  window.addEventListener('beforeprint', () => table.draw(0, 500)); // paper has no second page of a table to turn to
  window.addEventListener('afterprint', () => table.draw(table.page * PAGE, PAGE));
}

start().catch((error) => {
  const line = document.getElementById('trouble');
  line.textContent = `The records cannot be shown (${error.message}). A browser from 2023 or later is needed; LEADERBOARD.md holds the table as text.`;
  line.hidden = false;
  throw error;
});
