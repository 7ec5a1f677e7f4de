/** Three layers by folder; `test/run.mjs` chooses. Titles are sentences, and each title is used once. */
const swc = [
  '@swc/jest',
  { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'commonjs' }, sourceMaps: 'inline' },
];

const layer = (name, extra = {}) => ({
  displayName: name,
  rootDir: __dirname,
  testMatch: [`<rootDir>/test/${name}/**/*.test.ts`],
  testEnvironment: 'node',
  transform: { '^.+\\.[cm]?[jt]s$': swc },
  // ESM only, so jest must transform it.
  transformIgnorePatterns: ['/node_modules/(?!(jose)/)', '<rootDir>/dist/'],
  modulePathIgnorePatterns: [
    '<rootDir>/dist',
    '<rootDir>/sdk/lib',
    '<rootDir>/endpoint/lib',
    '<rootDir>/\\.cache',
    '<rootDir>/\\.funcx-data',
  ],
  ...extra,
});

module.exports = {
  // A whole layer runs on two busy cores: what takes 2 s alone may take 20 s there.
  testTimeout: 30_000,
  projects: [
    layer('unit'),
    layer('component'),
    // Attacks on the service. They need a PostgreSQL of their own at most, and run with every `npm test`.
    layer('security'),
    layer('system', {
      globalSetup: '<rootDir>/test/helpers/start-system.ts',
      globalTeardown: '<rootDir>/test/helpers/stop-system.ts',
      setupFilesAfterEnv: ['<rootDir>/test/helpers/system-timeouts.ts'],
    }),
    layer('chaos'), // its program starts a system of its own
    layer('long', {
      globalSetup: '<rootDir>/test/helpers/start-system.ts',
      globalTeardown: '<rootDir>/test/helpers/stop-system.ts',
      setupFilesAfterEnv: ['<rootDir>/test/helpers/system-timeouts.ts'],
    }),
    layer('clients', {
      globalSetup: '<rootDir>/test/helpers/start-system.ts',
      globalTeardown: '<rootDir>/test/helpers/stop-system.ts',
      setupFilesAfterEnv: ['<rootDir>/test/helpers/system-timeouts.ts'],
    }),
    layer('flows', {
      globalSetup: '<rootDir>/test/helpers/start-flows-system.ts',
      globalTeardown: '<rootDir>/test/helpers/stop-system.ts',
      setupFilesAfterEnv: ['<rootDir>/test/helpers/system-timeouts.ts'],
    }),
    layer('pipelines', {
      globalSetup: '<rootDir>/test/helpers/start-pipelines-system.ts',
      globalTeardown: '<rootDir>/test/helpers/stop-system.ts',
      setupFilesAfterEnv: ['<rootDir>/test/helpers/system-timeouts.ts'],
    }),
  ],
};
