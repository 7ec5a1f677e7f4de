import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

import { findBasePython } from '../local/processes/python';
import { UserError } from '../local/machine/user-error';
import { functionFile, python } from '../sdk';

import type { FunctionSource } from '../sdk';

/**
 * Takes one function's own text out of a Python file, decorators included, as `inspect.getsource` would give it, and the
 * imports of the file that it uses before it.
 */
const EXTRACT = `
import ast, json, sys
path, name = sys.argv[1], sys.argv[2]
text = open(path, encoding='utf-8').read()
try:
    tree = ast.parse(text)
except SyntaxError as e:
    sys.exit(f'{path}, line {e.lineno}: {e.msg}.')
lines = text.split('\\n')
functions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
known = ', '.join(n.name for n in functions) or 'none'
if not name:
    if len(functions) != 1:
        sys.exit(f'Say which function of {path} is meant, as {path}:NAME; there are: {known}.')
    name = functions[0].name
for node in reversed(functions):
    if node.name == name:
        break
else:
    sys.exit(f'There is no function {name} at the top level of {path}; there are: {known}.')
first = min([node.lineno] + [d.lineno for d in node.decorator_list])
used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
def is_used(statement):
    if not isinstance(statement, (ast.Import, ast.ImportFrom)):
        return False
    if isinstance(statement, ast.ImportFrom) and statement.module == '__future__':
        return True
    return any((a.asname or a.name.split('.')[0]) in used or a.name == '*' for a in statement.names)
head = [ast.unparse(s) for s in tree.body if is_used(s)]
print(json.dumps({'name': name, 'source': '\\n'.join(head + lines[first - 1:node.end_lineno]) + '\\n'}))
`;

/** Reads `FILE[:NAME]`, by the file's extension; throws a {@link UserError} that says what is not right about it. */
export function readFunction(reference: string): FunctionSource {
  const match = /^(.+?)(?::([\p{ID_Start}$_][\p{ID_Continue}$]*))?$/u.exec(reference);
  const [, file = '', name] = match ?? [];
  if (!existsSync(file))
    throw new UserError(`There is no file ${file}; give FILE or FILE:NAME, such as examples/hello.py:hello.`);
  return file.endsWith('.py') ? readPython(file, name ?? '') : functionFile(file, name);
}

function readPython(file: string, wanted: string): FunctionSource {
  const { status, stdout, stderr } = spawnSync(findBasePython().path, ['-c', EXTRACT, file, wanted], { encoding: 'utf8' });
  if (status !== 0) throw new UserError(stderr.trim());
  const { name, source } = JSON.parse(stdout) as { name: string; source: string };
  return python(source, name);
}
