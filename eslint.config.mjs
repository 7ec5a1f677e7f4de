import eslint from '@eslint/js';
import tseslint from 'typescript-eslint';

/** Which rooms a room may import. A room's main.ts is its composition root and may import any room. */
const ROOMS = [
  'accepting',
  'activities',
  'api',
  'broker',
  'cli',
  'client',
  'contracts',
  'endpoint',
  'flows',
  'local',
  'platform',
  'sdk',
  'workers',
  'workflows',
];
const MAY_IMPORT = {
  contracts: [],
  broker: ['contracts'],
  client: ['contracts'],
  platform: ['contracts', 'broker', 'client'], // client: payload-codec.ts
  flows: ['contracts'],
  workflows: ['contracts', 'flows'],
  accepting: ['contracts', 'broker', 'platform'],
  activities: ['contracts', 'broker', 'platform', 'accepting', 'flows'],
  workers: ['contracts', 'broker', 'platform', 'accepting', 'activities', 'workflows'],
  api: ['contracts', 'client', 'platform', 'broker', 'accepting', 'activities', 'flows'],
  endpoint: ['contracts', 'broker', 'client'],
  sdk: ['contracts', 'broker', 'client'],
  cli: ['client', 'sdk', 'contracts', 'flows', 'local', 'endpoint'], // endpoint: python-environment.ts
  local: ['sdk', 'contracts', 'endpoint'],
  bench: ['contracts', 'sdk'], // by public interfaces only
};
/** The floors of local/: a floor may import those before it. */
const FLOORS = ['machine', 'processes', 'engines', 'setup', 'supervisor'];

const floorRules = FLOORS.map((floor, index) => ({ room: 'local', folder: `local/${floor}`, above: FLOORS.slice(index + 1) }));
const roomRules = [...Object.keys(MAY_IMPORT).map((room) => ({ room, folder: room, above: undefined })), ...floorRules].map(
  ({ room, folder, above }) => {
    const allowed = MAY_IMPORT[room];
    const refused = ROOMS.filter((other) => other !== room && !allowed.includes(other));
    const group = (rooms) => rooms.flatMap((name) => [`../${name}`, `../${name}/**`, `../../${name}`, `../../${name}/**`]);
    return {
      files: [`${folder}/**/*.ts`],
      ignores: [`${room}/main.ts`],
      rules: {
        '@typescript-eslint/no-restricted-imports': [
          'error',
          {
            patterns: [
              {
                group: group(refused),
                message: `${room}/ may import: ${allowed.join(', ') || 'nothing'}.`,
              },
              ...(above === undefined
                ? []
                : [
                    {
                      regex: `^\\.\\./(${[...above, '[^/]+$'].join('|')})`,
                      message: `In local/, this floor may import the floors before it: ${FLOORS.join(', ')}.`,
                    },
                  ]),
              { group: ['**/main'], message: 'Nobody imports a composition root.' },
              { regex: '/sdk$', message: 'Import ../sdk/index: ../sdk is what was packed last, when something was packed.' },
              ...(['broker', 'bench'].includes(room) ? [] : [{ group: ['amqplib'], message: 'Only broker/ imports amqplib.' }]),
              ...(['contracts', 'flows', 'workflows'].includes(room)
                ? [
                    {
                      group: ['node:*', 'fs', 'path', 'crypto', 'pg', 'amqplib'],
                      message: 'Workflows use this room: no Node built-ins.',
                    },
                  ]
                : []),
            ],
          },
        ],
      },
    };
  },
);

/** Words that the glossary replaces (docs/glossary.md), by where they may not stand. */
const RETIRED = {
  text: /\bcan not\b|\btask_queues\b|\btends?\b(?! to)/i,
  name: /^(?:.*_)?(?:AT_ONCE|FEW|LOOK_MS|LOOK_S|BEAT_MS)$|^tend(?:[A-Z]|$)|[aA]sleep$|RestNowhere/,
};
/** Fields of workflow inputs that are older than the endpoint queue. */
const WIRE_FIELD = 'taskQueueId';

const retiredWords = {
  meta: { type: 'suggestion', schema: [] },
  create(context) {
    const refuse = (node, word) =>
      context.report({
        node,
        loc: node.loc,
        message: `"${word}" is retired; see "Words that are not used" in docs/glossary.md.`,
      });
    const checkText = (node, text) => {
      const found = RETIRED.text.exec(text);
      if (found) refuse(node, found[0]);
    };
    return {
      Program() {
        for (const comment of context.sourceCode.getAllComments()) checkText(comment, comment.value);
      },
      Literal(node) {
        if (typeof node.value === 'string') checkText(node, node.value);
      },
      TemplateElement(node) {
        checkText(node, node.value.raw);
      },
      Identifier(node) {
        if (RETIRED.name.test(node.name)) refuse(node, node.name);
        const isField = ['Property', 'TSPropertySignature', 'MemberExpression'].includes(node.parent.type);
        if (node.name === WIRE_FIELD && !isField) refuse(node, node.name);
      },
    };
  },
};

export default tseslint.config(
  // The template is a project of its own, with its own settings: test/system/sdk-package.test.ts compiles it.
  {
    ignores: [
      'examples/typescript-starter/**',
      '**/node_modules/**',
      'dist/**',
      '**/lib/**',
      '.cache/**',
      '.funcx-data/**',
      'examples/*/node_modules/**',
    ],
  },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-non-null-assertion': 'off', // a comment says why each holds
      '@typescript-eslint/require-await': 'off', // interfaces are asynchronous where an implementation need not be
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/unbound-method': 'off', // our objects are closures; classes keep their state in private fields
      'no-console': 'error',
    },
  },
  ...roomRules,
  {
    files: ['**/*.ts'],
    plugins: { funcx: { rules: { 'retired-words': retiredWords } } },
    rules: { 'funcx/retired-words': 'error' },
  },
  {
    files: ['**/*.mjs', '**/*.cjs', '**/*.js', 'bin/funcx'],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        module: 'writable',
        require: 'readonly',
        __dirname: 'readonly',
        __filename: 'readonly',
        Buffer: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        setInterval: 'readonly',
        clearInterval: 'readonly',
        setImmediate: 'readonly',
        URL: 'readonly',
        fetch: 'readonly',
        AbortSignal: 'readonly',
        exports: 'writable',
        queueMicrotask: 'readonly',
        performance: 'readonly',
        structuredClone: 'readonly',
        TextDecoder: 'readonly',
        TextEncoder: 'readonly',
      },
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/explicit-module-boundary-types': 'off',
      // Jest's asymmetric matchers are `any`, and so are answers that a test looks into.
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
    },
  },
  { files: ['bench/**/*.ts', 'examples/**/*.ts'], rules: { 'no-console': 'off' } },
);
