import { InvalidArgumentError } from 'commander';

import { print } from './output';

import type { Command } from 'commander';

/** `completion`: the script that a shell evaluates, and the hidden command that the script calls for candidates. */

const COMPLETE = '__complete';

const SCRIPTS: Record<string, string> = {
  bash: `_funcx() {
  local IFS=$'\\n'
  COMPREPLY=($(funcx ${COMPLETE} -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _funcx funcx`,
  zsh: `_funcx() {
  local -a found
  found=(\${(f)"$(funcx ${COMPLETE} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( \${#found} )); then compadd -- $found; else _files; fi
}
compdef _funcx funcx`,
  fish: `complete -c funcx -a '(funcx ${COMPLETE} -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
};
const SHELLS = Object.keys(SCRIPTS);

export function addCompletionCommands(program: Command): void {
  program
    .command('completion')
    .description('print the script that makes a shell complete commands and options')
    .argument('<shell>', SHELLS.join(', '), parseShell)
    .addHelpText(
      'after',
      `
Examples:
  bash:  eval "$(funcx completion bash)"        in ~/.bashrc
  zsh:   eval "$(funcx completion zsh)"         in ~/.zshrc, after compinit
  fish:  funcx completion fish | source         in ~/.config/fish/config.fish`,
    )
    .action((shell: string) => print(SCRIPTS[shell] ?? ''));
  program
    .command(COMPLETE, { hidden: true })
    .argument('[words...]')
    .action((words: string[]) => {
      for (const candidate of candidatesFor(program, words)) print(candidate);
    });
}

function parseShell(text: string): string {
  if (!(text in SCRIPTS)) throw new InvalidArgumentError(`a shell is one of ${SHELLS.join(', ')}.`);
  return text;
}

/** Returns the candidates for the last word, which may be empty or incomplete. */
export function candidatesFor(program: Command, words: readonly string[]): string[] {
  const begun = words.at(-1) ?? '';
  let command = program;
  for (const word of words.slice(0, -1)) {
    const inner = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (inner !== undefined) command = inner;
  }
  const visible = command.createHelp().visibleCommands(command);
  const names = begun.startsWith('-') ? optionsOf(command) : visible.map((one) => one.name());
  return names.filter((name) => name.startsWith(begun));
}

function optionsOf(command: Command): string[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ long, short }) => long ?? short ?? []);
}
