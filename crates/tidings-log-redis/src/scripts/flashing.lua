-- How flash events are handed out (LOG.md §3); put before the scripts that do it.
--
-- Hands out so many drafts of one partition: topic, kind, attributes and data of each stand from
-- ARGV[draft] on. The stream is for the tails that are there, so it is short, and gone after seconds.
local function flash(stream, draft, drafts)
  for draft = draft, draft + 4 * drafts - 1, 4 do
    redis.call('XADD', stream, 'MAXLEN', '~', '1000', '*', 't', ARGV[draft], 'k', ARGV[draft + 1], 'p', '', 'a', ARGV[draft + 2], 'd', ARGV[draft + 3])
  end
  redis.call('PEXPIRE', stream, '10000')
end

