import { runProgram } from '../local/run-program';

import { createProgram } from './program';

void runProgram(createProgram());
