import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

import { findBasePython } from '../local/processes/python';
import { UserError } from '../local/machine/user-error';
import { functionFile, python } from '../sdk/index';

import type { FunctionSource } from '../sdk/index';

/**
 * Checks a Python file and finds the functions that its top level defines, also inside an `if` or a `try`. The whole text is
 * sent: its imports, constants and helpers run on the endpoint before the function does, except code under
 * `if __name__ == "__main__"`. Python reads the file, so the encoding that the file declares is used.
 */
const CHECK = `
import ast, json, sys, tokenize, unicodedata
path, name = sys.argv[1], unicodedata.normalize('NFKC', sys.argv[2])
try:
    with tokenize.open(path) as file:
        text = file.read()
    if '\\0' in text:
        line = text[:text.index('\\0')].count('\\n') + 1
        sys.exit(f'{path}, line {line}: there is a NUL character, which Python does not read; remove it.')
    tree = ast.parse(text)
except UnicodeDecodeError as e:
    sys.exit(f'{path} is not {e.encoding}: {e.reason}. Save it as UTF-8, or declare its encoding in the first line.')
except SyntaxError as e:
    sys.exit(f'{path}, line {e.lineno}: {e.msg}.' if e.lineno else f'{path}: {e.msg}.')
def defined(body):
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif not isinstance(node, ast.ClassDef):
            for part in ('body', 'orelse', 'finalbody'):
                yield from defined(getattr(node, part, None) or [])
            for handler in getattr(node, 'handlers', []):
                yield from defined(handler.body)
functions = list(dict.fromkeys(defined(tree.body)))
assigned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
known = ', '.join(functions) or 'none'
if not name:
    if len(functions) != 1:
        sys.exit(f'Say which function of {path} is meant, as {path}:NAME; there are: {known}.')
    name = functions[0]
elif name not in functions and name not in assigned:
    sys.exit(f'There is no function {name} at the top level of {path}; there are: {known}.')
print(json.dumps({'name': name, 'source': text}))
`;
const MAX_SOURCE_BYTES = 64 * 1024 * 1024;

/** Reads `FILE[:NAME]`, by the file's extension; throws a {@link UserError} that says what is wrong with it. */
export function readFunction(reference: string): FunctionSource {
  const match = /^(.+?)(?::([\p{ID_Start}$_][\p{ID_Continue}$]*))?$/u.exec(reference);
  const [, file = '', name] = match ?? [];
  if (!existsSync(file))
    throw new UserError(`There is no file ${file}; give FILE or FILE:NAME, such as examples/hello.py:hello.`);
  return file.endsWith('.py') ? readPython(file, name ?? '') : functionFile(file, name);
}

function readPython(file: string, wanted: string): FunctionSource {
  const { status, stdout, stderr } = spawnSync(findBasePython().path, ['-c', CHECK, file, wanted], {
    encoding: 'utf8',
    maxBuffer: MAX_SOURCE_BYTES,
  });
  if (status !== 0) throw new UserError(stderr.trim());
  const { name, source } = JSON.parse(stdout) as { name: string; source: string };
  return python(source, name);
}
