// What the plots show: each is a question, and a function from records to a Vega-Lite specification or to the reason why there is none.

const VERDICTS = { reproduced: 'good', exceeded: 'good', equivalent: 'good', improved: 'good', missed: 'bad', contradicted: 'bad', regressed: 'bad' };
const measured = (row, key) => row.outcome === 'ok' && row[key][0] !== null;
const unique = (values) => [...new Set(values)];
const countBy = (items, keyOf) => items.reduce((counts, item) => counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1), new Map());
const byCount = (items, keyOf) => [...countBy(items, keyOf)].sort(([, a], [, b]) => b - a).map(([key]) => key);
const LEGEND = { title: null, orient: 'bottom', symbolOpacity: 1 };

// A logarithmic axis over the values that it has to show, with 1, 2, 5 of every decade marked, or the decades alone where there are many
function log(title, values, format = '~s') {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const decades = Math.log10(high / low);
  const steps = decades > 3 ? [1] : decades > 1.5 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power += 1) ticks.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(3))));
  const domain = [low / 1.15, high * 1.15];
  return { scale: { type: 'log', domain, nice: false }, axis: { title, format, values: ticks.filter((tick) => tick >= domain[0] && tick <= domain[1]) } };
}
const field = (name, type, rest = {}) => ({ field: name, type, ...rest });
const NOT_REAL = { condition: { test: 'datum.twin', value: 0.45 }, value: 1 };

function tip(row) {
  const marks = [row.synthetic ? 'synthetic twin' : '', row.emulated ? 'emulated' : ''].filter(Boolean).join(', ');
  return `${row.name} ${row.precision} ${row.division}${marks ? ` (${marks})` : ''}`;
}

// Rows that nobody beats in speed and in quality at once, slowest first
function findFront(points, higher) {
  const better = (a, b) => (higher ? a > b : a < b);
  const front = [];
  for (const point of [...points].sort((a, b) => b.speed - a.speed || (higher ? b.quality - a.quality : a.quality - b.quality))) {
    if (!front.length || better(point.quality, front.at(-1).quality)) front.push(point);
  }
  return front.reverse();
}

// The same groups as those of the ranks, on one device
const groupOf = (row) => `${row.metric} on ${row.data}${row.synthetic ? ' (synthetic twin)' : ''}${row.problem ? `, ${row.problem}` : ''}, ${row.phase}, ${row.preset}, ${row.device}${row.emulated ? ' (emulated)' : ''}`;

const pareto = {
  id: 'pareto',
  title: 'Which model is fast and good at once?',
  controls: (rows) => [{ name: 'group', label: 'Compare by', options: byCount(rows.filter((row) => measured(row, 'speed') && measured(row, 'quality')), groupOf) }],
  make(rows, { group }) {
    const kept = rows.filter((row) => measured(row, 'speed') && measured(row, 'quality') && groupOf(row) === group);
    if (kept.length < 2) return { why: 'needs two records with speed and quality on the same data, preset and device' };
    const [{ metric, higher }] = kept;
    const points = kept.map((row) => ({
      name: tip(row), workload: row.workload, twin: Boolean(row.synthetic), speed: row.speed[0], slow: row.speed[1] ?? row.speed[0],
      fast: row.speed[2] ?? row.speed[0], quality: row.quality[0], low: row.quality[1] ?? row.quality[0], high: row.quality[2] ?? row.quality[0],
    }));
    const front = findFront(points, higher).map((point, i) => ({ ...point, label: String(i + 1) }));
    const x = field('speed', 'quantitative', log('samples/s', points.flatMap((p) => [p.slow, p.fast])));
    const y = field('quality', 'quantitative', { scale: { zero: false }, axis: { title: `${metric} (${higher ? 'higher' : 'lower'} is better)` } });
    const color = field('workload', 'nominal', { legend: LEGEND });
    return {
      answer: `Nobody here is both faster and better than ${front.map((p) => `(${p.label}) ${p.name}`).join(', ')}. Bars are 95 % intervals; where they overlap, chance may have decided.`,
      spec: { height: 320, layer: [
        { data: { values: front }, mark: { type: 'line', interpolate: 'step-after', strokeDash: [5, 4], opacity: 0.7 }, encoding: { x, y, color: { value: 'gray' } } },
        { data: { values: points }, mark: { type: 'rule', opacity: 0.35 }, encoding: { x: { ...x, field: 'slow' }, x2: { field: 'fast' }, y, color } },
        { data: { values: points }, mark: { type: 'rule', opacity: 0.35 }, encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color } },
        { data: { values: points }, mark: { type: 'point', filled: true, size: 80 }, encoding: { x, y, color, opacity: NOT_REAL, tooltip: [{ field: 'name', title: 'record' }, { field: 'speed', title: 'samples/s' }, { field: 'quality', title: metric }] } },
        { data: { values: front }, mark: { type: 'text', dy: -12, fontSize: 12, fontWeight: 'bold' }, encoding: { x, y, text: { field: 'label' } } },
      ] },
    };
  },
};

// What ran out of memory on a GPU stands at the limit of its card. Emulated runs say nothing of memory
function findCrosses(rows, profiles) {
  const limits = new Map(profiles.map(({ name, gib }) => [name, gib && (gib * 2 ** 30) / 1e9]));
  return rows.filter((row) => row.outcome === 'oom' && row.batch && row.gpu && !row.emulated && limits.get(row.profile)).map((row) => ({
    name: `${tip(row)}: out of memory`, family: row.family, batch: row.batch, memory: limits.get(row.profile), device: row.device,
  }));
}

const memory = {
  id: 'memory',
  title: 'How much GPU memory does a batch take, and which card holds it?',
  make(rows, choice, core) {
    const points = rows.filter((row) => row.device_memory[0] !== null && row.batch).map((row) => ({
      name: tip(row), family: row.family, batch: row.batch, memory: row.device_memory[0], outcome: row.outcome, twin: Boolean(row.synthetic), device: row.device,
      line: `${tip(row).replace(/batch\d+/, '')} ${row.device}`, // variants that differ in their batch alone are one line
    }));
    const crosses = findCrosses(rows, core.profiles);
    if (!points.length && !crosses.length) return { why: "no record here measured a GPU's memory; the memory of a process on a CPU stands in the table" };
    const most = Math.max(...points.map((p) => p.memory));
    const titles = new Map();
    for (const { title, gib } of core.profiles) if (gib) titles.set(gib, [...(titles.get(gib) ?? []), title.replace(/ \d+ GB.*| GPU.*/, '').replace('NVIDIA ', '')]);
    const limits = [...titles].map(([gib, names]) => ({ memory: (gib * 2 ** 30) / 1e9, label: `${gib} GiB: ${unique(names).join(', ')}` }));
    const smallest = limits.filter((limit) => limit.memory >= most).sort((a, b) => a.memory - b.memory)[0];
    const batches = unique([...points, ...crosses].map((p) => p.batch));
    const scale = log('batch', batches, 'd');
    if (batches.length <= 8) scale.axis.values = batches;
    const x = field('batch', 'quantitative', scale);
    const y = field('memory', 'quantitative', log('peak of the whole device, GB', [...points, ...crosses, ...limits].map((p) => p.memory), '~r'));
    const largest = points.length ? `The largest takes ${formatNumber(most)} GB${smallest ? `; the smallest card that holds all that ran: ${smallest.label}` : ''}. ` : '';
    const failed = crosses.length ? ` ${crosses.length} ran out of memory: a cross at the limit of the card.` : '';
    return {
      answer: `${largest}Lines are the cards' limits.${failed}`,
      spec: { height: 340, layer: [
        { data: { values: limits }, mark: { type: 'rule', strokeDash: [4, 4], opacity: 0.6 }, encoding: { y, color: { value: 'gray' } } },
        { data: { values: limits }, mark: { type: 'text', align: 'left', dx: 4, dy: -5, fontSize: 10, opacity: 0.9 }, encoding: { x: { value: 0 }, y, text: { field: 'label' } } },
        ...(points.length ? [
          { data: { values: points }, mark: { type: 'line', opacity: 0.3 }, encoding: { x, y, detail: field('line', 'nominal'), color: field('family', 'nominal', { legend: LEGEND }) } },
          { data: { values: points }, mark: { type: 'point', filled: true, size: 60 }, encoding: { x, y, opacity: NOT_REAL, color: field('family', 'nominal', { legend: LEGEND }), tooltip: [{ field: 'name', title: 'record' }, { field: 'device' }, { field: 'batch' }, { field: 'memory', title: 'GB' }] } },
        ] : []),
        ...(crosses.length ? [
          { data: { values: crosses }, mark: { type: 'point', shape: 'cross', angle: 45, filled: true, size: 120 }, encoding: { x, y, color: field('family', 'nominal', { legend: LEGEND }), tooltip: [{ field: 'name', title: 'record' }, { field: 'device' }, { field: 'batch' }, { field: 'memory', title: 'more than GB' }] } },
        ] : []), // an empty layer is a barrier to screen readers
      ] },
    };
  },
};

const documented = {
  id: 'documented',
  title: 'How far from the documents are the measurements?',
  controls: (rows, core) => (core.claims.length ? [{ name: 'which', label: 'Claims', options: ['with a verdict', 'not comparable too'] }] : []),
  make(rows, { which }, core) {
    const all = core.claims.map(([id, workload, metric, claimed, value, low, high, verdict]) => ({
      id, metric, claimed, value, verdict, ratio: value / claimed, low: (low ?? value) / claimed, high: (high ?? value) / claimed,
    })).filter((point) => which !== 'with a verdict' || point.verdict !== 'not comparable');
    const points = all.filter((point) => point.ratio > 0 && Number.isFinite(point.ratio));
    if (!points.length) return { why: `no claim${core.claims.length ? ' of this choice' : ''} has a measured number beside it yet` };
    for (const point of points) if (point.low <= 0) point.low = point.ratio;
    const x = field('ratio', 'quantitative', log('measured / documented', [1, ...points.flatMap((p) => [p.low, p.high])], '~r'));
    const y = field('id', 'nominal', { sort: { field: 'ratio' }, axis: { title: null, labelLimit: 220 } });
    const found = unique(points.map((p) => p.verdict));
    const color = field('verdict', 'nominal', { scale: { domain: found, range: found.map((v) => ({ good: '#2a9d5c', bad: '#d1495b' })[VERDICTS[v]] ?? '#8a8f98') }, legend: LEGEND });
    const left = all.length - points.length;
    return {
      answer: `${points.length} claims${left ? `; ${left} with a zero or a negative number are not drawn` : ''}. The line at 1 is agreement; more is not always better.`,
      spec: { height: 70 + 16 * points.length, layer: [
        { data: { values: [{ ratio: 1 }] }, mark: { type: 'rule', opacity: 0.7 }, encoding: { x, color: { value: 'gray' } } },
        { data: { values: points }, mark: { type: 'rule', opacity: 0.5 }, encoding: { x: { ...x, field: 'low' }, x2: { field: 'high' }, y, color } },
        { data: { values: points }, mark: { type: 'point', filled: true, size: 60 }, encoding: { x, y, color, tooltip: [{ field: 'id', title: 'claim' }, { field: 'metric' }, { field: 'claimed', title: 'documented' }, { field: 'value', title: 'measured' }, { field: 'verdict' }] } },
      ] },
    };
  },
};

const arithmetic = (row) => row.flops[0] / (row.step_ms[0] / 1e3);
const counted = (row) => !row.emulated && ['flops', 'bytes', 'step_ms'].every((key) => measured(row, key));

// A roof for each precision: what the memory can feed, up to what the arithmetic can do. The device's profile gives both
function findRoofs({ peaks, bandwidth }, precisions, intensities) {
  const known = precisions.filter((precision) => peaks[precision] && bandwidth);
  const ridges = known.map((precision) => peaks[precision] / bandwidth);
  const [from, to] = [Math.min(...intensities, ...ridges) / 2, Math.max(...intensities, ...ridges) * 2];
  return known.map((precision, i) => ({
    line: [from, ridges[i], to].map((intensity) => ({ intensity, reached: Math.min(peaks[precision], bandwidth * intensity), precision })),
    label: { intensity: ridges[i], reached: peaks[precision], label: `${precision}: ${formatNumber(peaks[precision] / 1e12)} TFLOP/s, ${formatNumber(bandwidth / 1e9)} GB/s` },
  }));
}

const roofline = {
  id: 'roofline',
  title: 'Is a step held back by arithmetic or by memory?',
  controls: (rows) => [{ name: 'device', label: 'Device', options: byCount(rows.filter(counted), (row) => row.device) }],
  make(rows, { device }, core) {
    const kept = rows.filter((row) => counted(row) && row.device === device);
    if (!kept.length) return { why: 'no record here counted the operations and the bytes of a step' };
    const points = kept.map((row) => ({ name: tip(row), family: row.family, intensity: row.flops[0] / row.bytes[0], reached: arithmetic(row), twin: Boolean(row.synthetic) }));
    const profile = core.profiles.find(({ name }) => name === kept[0].profile) ?? { peaks: {} };
    const roofs = findRoofs(profile, unique(kept.map((row) => row.precision)), points.map((p) => p.intensity));
    const best = kept.reduce((a, b) => (arithmetic(a) > arithmetic(b) ? a : b));
    const peak = profile.peaks[best.precision];
    const share = peak ? `, ${formatNumber(Number(((100 * arithmetic(best)) / peak).toPrecision(2)))} % of its peak` : '';
    const fed = kept.filter((row) => profile.peaks[row.precision] && row.flops[0] / row.bytes[0] < profile.peaks[row.precision] / profile.bandwidth).length;
    const held = roofs.length ? ` Memory is the nearer roof for ${fed} of ${kept.length}.` : ' No roof is drawn: no datasheet gives peak and bandwidth of this device.';
    const lines = roofs.flatMap((roof) => roof.line);
    const x = field('intensity', 'quantitative', log('FLOP per byte that the operations move, none fused', [...points, ...lines].map((p) => p.intensity), '~r'));
    const y = field('reached', 'quantitative', log('FLOP/s reached', [...points, ...lines].map((p) => p.reached)));
    return {
      answer: `${tip(best)} reaches most, ${formatNumber(Number((arithmetic(best) / 1e9).toPrecision(3)))} GFLOP/s${share}.${held} A point above the slope found part of its data in a cache.`,
      spec: { height: 320, layer: [
        ...(roofs.length ? [
          { data: { values: lines }, mark: { type: 'line', strokeDash: [4, 4] }, encoding: { x, y, detail: field('precision', 'nominal'), color: { value: 'gray' } } },
          { data: { values: roofs.map((roof) => roof.label) }, mark: { type: 'text', align: 'left', dx: 4, dy: -6, fontSize: 11 }, encoding: { x, y, text: { field: 'label' } } },
        ] : []),
        { data: { values: points }, mark: { type: 'point', filled: true, size: 70 }, encoding: { x, y, opacity: NOT_REAL, color: field('family', 'nominal', { legend: LEGEND }), tooltip: [{ field: 'name', title: 'record' }, { field: 'intensity', title: 'FLOP per byte' }, { field: 'reached', title: 'FLOP/s' }] } },
      ] },
    };
  },
};

const MOST_CURVES = 10;

const curves = {
  id: 'curves',
  title: 'How did training go?',
  legendWidth: 270,
  controls: (rows) => [
    { name: 'workload', label: 'Workload', options: byCount(rows.filter((row) => row.phase === 'train' && row.curves), (row) => row.workload) },
    { name: 'curve', label: 'Curve', options: byCount(rows.filter((row) => row.curves).flatMap((row) => Object.keys(row.curves)), (name) => name).filter((name) => name !== 'epoch_end_s') },
  ],
  make(rows, { workload, curve }) {
    const kept = rows.filter((row) => row.workload === workload && row.curves?.[curve]).slice(0, MOST_CURVES);
    if (!kept.length) return { why: 'no record here keeps such a curve' };
    const points = kept.flatMap((row) => {
      const [length, ...values] = row.curves[curve];
      return values.map((value, i) => ({ line: tip(row).slice(row.workload.length + 1), epoch: 1 + Math.round((i * (length - 1)) / Math.max(1, values.length - 1)), value, twin: Boolean(row.synthetic) }));
    });
    const values = points.map((point) => point.value);
    const title = curve.replaceAll('_', ' ');
    const steep = Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
    return {
      answer: `${kept.length === 1 ? 'One training' : `${kept.length} trainings`} of ${workload}, first in the table${kept.some((row) => row.synthetic) ? '; some on synthetic twins' : ''}.`,
      spec: { height: 300, data: { values: points }, mark: { type: 'line', point: points.length < 60 }, encoding: {
        x: field('epoch', 'quantitative', { axis: { title: 'epoch', format: 'd', tickCount: 6 } }),
        y: field('value', 'quantitative', { ...(steep ? log(title, values, '~g') : { scale: { zero: false }, axis: { title, format: '~g' } }) }),
        color: field('line', 'nominal', { legend: LEGEND }),
        tooltip: [{ field: 'line', title: 'record' }, { field: 'epoch' }, { field: 'value' }],
      } },
    };
  },
};

const gate = {
  id: 'gate',
  title: 'What did the regression gate say?',
  controls: (rows, core) => [{ name: 'case', label: 'Case', options: byCount(core.history, (passage) => passage[1]) }],
  make(rows, { case: id }, core) {
    const kept = core.history.filter(([, caseId, , , ratio]) => caseId === id && ratio !== null);
    const points = kept.map(([when, , candidate, verdict, ratio, low, high]) => ({ when, candidate, ratio, low: low ?? ratio, high: high ?? ratio, verdict }));
    if (!points.length) return { why: 'the gate has left no history yet' };
    const x = field('when', 'temporal', { axis: { title: null, tickCount: 6 } });
    const y = field('ratio', 'quantitative', { scale: { zero: false }, axis: { title: 'time per step / reference' } });
    const found = unique(points.map((p) => p.verdict));
    const color = field('verdict', 'nominal', { scale: { domain: found, range: found.map((v) => ({ good: '#2a9d5c', bad: '#d1495b' })[VERDICTS[v]] ?? '#8a8f98') }, legend: LEGEND });
    return {
      answer: `The latest of ${points.length} sessions: ${points.at(-1).verdict}, ratio ${formatNumber(points.at(-1).ratio)}. Above 1 is slower than the reference.`,
      spec: { height: 260, layer: [
        { data: { values: [{ ratio: 1 }] }, mark: { type: 'rule', opacity: 0.7 }, encoding: { y, color: { value: 'gray' } } },
        { data: { values: points }, mark: 'rule', encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color } },
        { data: { values: points }, mark: { type: 'point', filled: true, size: 70 }, encoding: { x, y, color, tooltip: [{ field: 'when' }, { field: 'candidate' }, { field: 'ratio' }, { field: 'verdict' }] } },
      ] },
    };
  },
};

const PLOTS = [pareto, documented, memory, roofline, curves, gate];
