// The records: packed columns become row objects; details and curves are opened when they are asked for.

async function unpackText(packed) {
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
}

const unpack = async (packed) => JSON.parse(await unpackText(packed));

class Store {
  static async open() {
    const core = await unpack(document.getElementById('data-core').textContent);
    return new Store(core);
  }

  constructor(core) {
    this.core = core;
    this.rows = [];
    for (let i = 0; i < core.count; i += 1) this.rows.push(this.#makeRow(i));
    this.byAnchor = new Map(this.rows.map((row) => [this.anchor(row), row]));
    this.opened = new Map();
  }

  #makeRow(index) {
    const { columns, quantities, pool, text } = this.core;
    const row = { index };
    for (const [name, column] of Object.entries(columns)) row[name] = text.includes(name) ? pool[column[index]] : column[index];
    for (const [name, lists] of Object.entries(quantities)) row[name] = lists.map((list) => list[index]);
    row.memory = row.device_memory[0] === null ? row.rss : row.device_memory;
    row.name = `${row.workload}/${row.variant}`;
    row.source = row.synthetic === 1 ? 'synthetic twin' : row.synthetic === 0 ? 'real data' : 'not known';
    return row;
  }

  anchor(row) {
    return `#record/${encodeURIComponent(row.run)}/${row.sequence}`;
  }

  // null where the page had no room for it
  async detail(row) {
    if (row.index >= this.core.detailed) return null;
    const { pool, items } = await this.#block('data-details', row.index);
    const [parts, commands, file, quantities] = items[row.index % this.core.block];
    return {
      parts: Object.fromEntries(Object.entries(parts).map(([name, at]) => [name, pool[at]])),
      commands: commands.map((at) => pool[at]),
      file,
      quantities: quantities.map(([at, ...numbers]) => [pool[at], numbers]),
    };
  }

  // { name: [length, ...points] }
  async curves(row) {
    if (row.index >= this.core.curved) return {};
    return (await this.#block('data-curves', row.index))[row.index % this.core.block];
  }

  #block(kind, index) {
    const at = Math.floor(index / this.core.block);
    const key = `${kind} ${at}`;
    if (!this.opened.has(key)) this.opened.set(key, unpack(document.getElementsByClassName(kind)[at].textContent));
    return this.opened.get(key);
  }
}
