// Numbers and elements. Numbers arrive with the digits that they deserve; text goes into the page as text only.

const decimalsOf = (x) => (String(x).split('e')[0].split('.')[1] ?? '').length;

function formatNumber(x, decimals = decimalsOf(x)) {
  if (x !== 0 && (Math.abs(x) >= 1e15 || Math.abs(x) < 1e-4)) return String(x);
  return x.toLocaleString('en-US', { minimumFractionDigits: Math.min(decimals, 12), maximumFractionDigits: Math.min(decimals, 12) });
}

function formatQuantity([value, low, high]) {
  if (value === null) return '';
  if (low === null) return formatNumber(value);
  const decimals = Math.max(...[value, low, high].map(decimalsOf));
  return `${formatNumber(value, decimals)} [${formatNumber(low, decimals)}, ${formatNumber(high, decimals)}]`;
}

const formatTime = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ');

// element('td', { class: 'number' }, 'text', another)
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== null && child !== ''));
  return made;
}

const badge = (kind, text) => element('span', { class: `badge ${kind}` }, text);

// Text that may be long; the whole of it shows when the pointer rests on it, and in the record's view
const cut = (text) => element('span', { class: 'cut', title: text.length > 30 ? text : null }, text);
