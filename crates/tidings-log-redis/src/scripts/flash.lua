-- Hands out flash events; after flashing.lua. KEYS: flash. ARGV: the drafts.
flash(KEYS[1], 1, #ARGV / 4)
return 1
