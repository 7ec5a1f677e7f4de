import { isMet, medianOf, OURS, ratioOf, type Measure } from './measures';
import { shown } from './report';

/** An SVG chart of the ratios of a run: a bar for each measure, a line where both would be equal, a tick at the target. */

const WIDTH = 1_000;
const LEFT = 400;
const RIGHT = 230;
const ROW = 26;
const LINE = 16;
const HEAD = 40;
const MAX_RATIO = 4;
const COLORS = { met: '#2a7f62', missed: '#b5533c', free: '#5b6c8f' };

export function chartOf(measures: readonly Measure[], subtitles: readonly string[]): string {
  const top = HEAD + subtitles.length * LINE + 16;
  const rows = measures.flatMap((measure) => {
    const ratio = ratioOf(measure);
    return ratio ? [{ measure, ratio }] : [];
  });
  const scale = (WIDTH - LEFT - RIGHT) / MAX_RATIO;
  const x = (ratio: number): number => LEFT + Math.min(ratio, MAX_RATIO) * scale;
  const height = top + rows.length * ROW + 40;
  const bars = rows.map(({ measure, ratio }, index) => {
    const y = top + index * ROW;
    const { target, reference, unit } = measure;
    const met = isMet(measure);
    const color = met === undefined ? COLORS.free : met ? COLORS.met : COLORS.missed;
    const limit = target && ('atLeast' in target ? target.atLeast : target.atMost);
    const own = `${shown(medianOf(measure, OURS))} ${unit}, ${shown(medianOf(measure, reference ?? ''))}`;
    return [
      text(LEFT - 8, y + 14, `${measure.part}: ${measure.what}`, 'end'),
      `<rect x="${LEFT}" y="${y + 3}" width="${(x(ratio.median) - LEFT).toFixed(1)}" height="15" fill="${color}"/>`,
      `<path d="M${x(ratio.low).toFixed(1)} ${y + 10.5}H${x(ratio.high).toFixed(1)}" stroke="#222"/>`,
      limit === undefined ? '' : `<path d="M${x(limit).toFixed(1)} ${y}v21" stroke="#222" stroke-width="3"/>`,
      text(WIDTH - RIGHT + 8, y + 14, `${ratio.median}  (${own})`, 'start'),
      `<title>${escape(`${measure.what}: ${ratio.median} of ${reference}`)}</title>`,
    ].join('');
  });
  const ticks = Array.from({ length: MAX_RATIO + 1 }, (_, n) => {
    const dash = n === 1 ? '' : ' stroke-dasharray="2 4"';
    return `<path d="M${x(n)} ${top - 6}V${height - 34}" stroke="#888"${dash}/>${text(x(n), height - 18, String(n), 'middle')}`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="16" y="24" font-size="16">${OURS}, divided by its reference</text>`,
    ...subtitles.map((line, index) => text(16, HEAD + 4 + index * LINE, line, 'start')),
    ...ticks,
    ...bars.map((bar) => `<g>${bar}</g>`),
    '</svg>',
    '',
  ].join('\n');
}

function text(x: number, y: number, content: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="#222">${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
