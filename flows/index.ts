export { FlowError, NeedsReference } from './errors';
export { validateDefinition } from './validate';
