#!/usr/bin/env node
'use strict';
require('../lib/endpoint/main.js');
