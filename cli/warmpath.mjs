#!/usr/bin/env node
// The installed command: `warmpath up`, `warmpath --help`. Sets up what is missing, then runs cli/main.ts.
import "./setup/launch.mjs";
