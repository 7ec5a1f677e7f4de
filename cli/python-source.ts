import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

import { findBasePython } from '../local/python';
import { UserError } from '../local/user-error';

import type { PythonFunction } from './call-function';

/** Takes one function's own text out of a file, decorators included, as `inspect.getsource` would give it. */
const EXTRACT = `
import ast, json, sys, textwrap
path, name = sys.argv[1], sys.argv[2]
text = open(path, encoding='utf-8').read()
try:
    tree = ast.parse(text)
except SyntaxError as e:
    sys.exit(f'{path}, line {e.lineno}: {e.msg}.')
functions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
for node in functions:
    if node.name == name:
        first = min([node.lineno] + [d.lineno for d in node.decorator_list])
        print(json.dumps('\\n'.join(text.split('\\n')[first - 1:node.end_lineno]) + '\\n'))
        break
else:
    known = ', '.join(n.name for n in functions) or 'none'
    sys.exit(f'There is no function {name} at the top level of {path}; there are: {known}.')
`;

/** Reads `FILE.py:NAME`; throws a {@link UserError} that says what is not right about it. */
export function readPythonFunction(reference: string): PythonFunction {
  const match = /^(.+):([A-Za-z_]\w*)$/.exec(reference);
  if (match === null) throw new UserError(`"${reference}" is not FILE.py:NAME, such as examples/hello.py:hello.`);
  const [, file = '', name = ''] = match;
  if (!existsSync(file)) throw new UserError(`There is no file ${file}.`);
  const { status, stdout, stderr } = spawnSync(findBasePython().path, ['-c', EXTRACT, file, name], { encoding: 'utf8' });
  if (status !== 0) throw new UserError(stderr.trim());
  return { name, source: JSON.parse(stdout) as string };
}
