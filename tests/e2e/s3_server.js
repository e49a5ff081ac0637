// A server of S3 that others wrote, for batch_store.py: serves DIRECTORY, whose folders are buckets, on a port that it prints.
//
// usage: node s3_server.js MODULES DIRECTORY ACCESS_KEY SECRET_KEY
'use strict';

const path = require('path');
const [modules, directory, accessKey, secretKey] = process.argv.slice(2);
const from = path.join(modules, '@20minutes', 's3rver');
const S3rver = require(from);
const accounts = require(path.join(from, 'lib', 'models', 'account'));

accounts.DUMMY_ACCOUNT.createKeyPair(accessKey, secretKey);
new S3rver({ address: '127.0.0.1', port: 0, silent: true, directory }).run().then(({ port }) => console.log(port));
process.stdin.on('end', () => process.exit(0)).resume(); // it ends with who started it
