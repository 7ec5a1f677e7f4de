export { validateDefinition } from './validate';
