#!/usr/bin/env node
'use strict';
require('../lib/endpoint/installed/program.js').runProgram(process.argv.slice(2));
