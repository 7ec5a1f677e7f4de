import { findAgentPython, settingsWith } from '../../cli/agent-settings';
import { layoutOf } from '../../local/machine/layout';
import { findBasePython } from '../../local/processes/python';

/** What an endpoint remembers of the options of its last start. */

test('what a start does not say stays as it was, and default takes a Python back', () => {
  const known = settingsWith({}, { requirements: '/lab/requirements.txt', taskDirectories: true });
  expect(known).toEqual({ python: { kind: 'requirements', file: '/lab/requirements.txt' }, taskDirectories: true });
  expect(settingsWith(known, {})).toEqual(known);
  expect(settingsWith(known, { venv: true, taskDirectories: false })).toEqual({
    python: { kind: 'venv' },
    taskDirectories: false,
  });
  expect(settingsWith(known, { python: 'default' })).toEqual({ taskDirectories: true });
  const isolated = settingsWith(known, { isIsolated: true, workers: 2 });
  expect(settingsWith(isolated, {})).toEqual({ ...known, isIsolated: true, workers: 2 });
  expect(settingsWith(isolated, { isIsolated: false, workers: 3 })).toEqual({ ...known, isIsolated: false, workers: 3 });
  expect(() => settingsWith({}, { python: '/bin/sh', venv: true })).toThrow('Give one of');
});

test('a Python that lacks what functions need is refused with the packages alone, no comments', async () => {
  const path = findBasePython().path;
  await expect(findAgentPython(layoutOf('/nowhere'), 'x', { kind: 'path', path })).rejects.toThrow(
    new RegExp(`has no dill.*\\n {2}${path} -m pip install "globus-compute-sdk==[\\d.]+"$`),
  );
});
