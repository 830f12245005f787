-- How many entries wait in an outbox. KEYS: state, outbox.
return demoted(KEYS[1]) or call('XLEN', KEYS[2])
