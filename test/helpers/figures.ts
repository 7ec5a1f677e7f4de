/** A measured figure that whoever runs the tests should see; the runner shows what tests write to the error stream. */
export function printFigure(line: string): void {
  process.stderr.write(`  ${line}\n`);
}
