/** The graph of a definition as SVG: states in rows by their distance from the start, arrows for what may follow. */

interface Edge {
  from: string;
  to: string;
  label: string;
}

const BOX = { width: 190, height: 44, gapX: 50, gapY: 66, margin: 30 };
const COLOURS: Readonly<Record<string, string>> = {
  Action: '#dbeafe',
  Choice: '#fef3c7',
  Wait: '#ede9fe',
  Pass: '#e5e7eb',
  ExpressionEval: '#e5e7eb',
  Fail: '#fee2e2',
  Map: '#dcfce7',
  Parallel: '#dcfce7',
};

type State = Record<string, unknown>;
const isState = (value: unknown): value is State => typeof value === 'object' && value !== null && !Array.isArray(value);

export function flowSvg(definition: unknown, title: string): string {
  const states = isState(definition) && isState(definition.States) ? definition.States : {};
  const start = isState(definition) && typeof definition.StartAt === 'string' ? definition.StartAt : '';
  const edges = Object.entries(states).flatMap(([name, state]) => (isState(state) ? edgesOf(name, state) : []));
  const rows = rowsOf(start, Object.keys(states), edges);
  const widest = Math.max(1, ...rows.map((row) => row.length));
  const width = 2 * BOX.margin + widest * BOX.width + (widest - 1) * BOX.gapX;
  const height = 2 * BOX.margin + 30 + rows.length * BOX.height + (rows.length - 1) * BOX.gapY;
  const places = new Map<string, { x: number; y: number }>();
  rows.forEach((row, y) => {
    const left = (width - row.length * BOX.width - (row.length - 1) * BOX.gapX) / 2;
    row.forEach((name, x) =>
      places.set(name, { x: left + x * (BOX.width + BOX.gapX), y: BOX.margin + 30 + y * (BOX.height + BOX.gapY) }),
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`,
    `<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#555"/></marker></defs>`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${BOX.margin}" y="${BOX.margin}" font-size="16" font-weight="bold">${escapeXml(title)}</text>`,
    ...edges.map((edge) => drawEdge(edge, places)),
    ...[...places].map(([name, place]) => drawState(name, states[name], place, name === start)),
    '</svg>',
    '',
  ].join('\n');
}

function edgesOf(from: string, state: State): Edge[] {
  const to = (next: unknown, label = ''): Edge[] => (typeof next === 'string' ? [{ from, to: next, label }] : []);
  const each = (list: unknown, label: (one: State) => string): Edge[] =>
    Array.isArray(list) ? list.filter(isState).flatMap((one) => to(one.Next, label(one))) : [];
  return [
    ...to(state.Next),
    ...each(state.Choices, () => ''),
    ...to(state.Default, 'else'),
    ...each(state.Catch, ({ ErrorEquals: names }) => `catch ${Array.isArray(names) ? names.join(', ') : ''}`),
  ];
}

/** Rows of states by their distance from the start. Unreachable states come last. */
function rowsOf(start: string, names: readonly string[], edges: readonly Edge[]): string[][] {
  const depth = new Map<string, number>(names.includes(start) ? [[start, 0]] : []);
  for (const name of depth.keys()) {
    for (const { to } of edges.filter(({ from }) => from === name))
      if (!depth.has(to) && names.includes(to)) depth.set(to, (depth.get(name) ?? 0) + 1);
  }
  const last = Math.max(-1, ...depth.values()) + 1;
  const rows: string[][] = [];
  for (const name of [...depth.keys(), ...names.filter((one) => !depth.has(one))])
    (rows[depth.get(name) ?? last] ??= []).push(name);
  return rows;
}

function drawState(name: string, state: unknown, { x, y }: { x: number; y: number }, isStart: boolean): string {
  const type = isState(state) ? String(state.Type) : '';
  const isEnd = isState(state) && (state.End === true || type === 'Fail');
  const shown = name.length > 24 ? `${name.slice(0, 23)}…` : name;
  return (
    `<g><title>${escapeXml(`${name} (${type})`)}</title>` +
    `<rect x="${x}" y="${y}" width="${BOX.width}" height="${BOX.height}" rx="${isStart ? 22 : 6}" fill="${COLOURS[type] ?? '#fff'}" stroke="#555" stroke-width="${isEnd ? 3 : 1}"/>` +
    `<text x="${x + BOX.width / 2}" y="${y + 19}" text-anchor="middle">${escapeXml(shown)}</text>` +
    `<text x="${x + BOX.width / 2}" y="${y + 35}" text-anchor="middle" font-size="11" fill="#555">${escapeXml(type)}</text></g>`
  );
}

function drawEdge({ from, to, label }: Edge, places: ReadonlyMap<string, { x: number; y: number }>): string {
  const [a, b] = [places.get(from), places.get(to)];
  if (!a || !b) return '';
  const isBack = b.y <= a.y;
  const [x1, y1] = isBack ? [a.x + BOX.width, a.y + BOX.height / 2] : [a.x + BOX.width / 2, a.y + BOX.height];
  const [x2, y2] = isBack ? [b.x + BOX.width, b.y + BOX.height / 2] : [b.x + BOX.width / 2, b.y];
  const bend = isBack ? `C${x1 + 40} ${y1} ${x2 + 40} ${y2} ${x2} ${y2}` : `C${x1} ${y1 + 30} ${x2} ${y2 - 30} ${x2} ${y2}`;
  const text =
    label === ''
      ? ''
      : `<text x="${(x1 + x2) / 2 + 6}" y="${(y1 + y2) / 2}" font-size="11" fill="#555">${escapeXml(label)}</text>`;
  return `<path d="M${x1} ${y1}${bend}" fill="none" stroke="#555" marker-end="url(#arrow)"/>${text}`;
}

const escapeXml = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
