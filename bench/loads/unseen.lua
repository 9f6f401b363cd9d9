-- One session, and a header line nobody has seen before on every request: a memo of header blocks always misses.
dofile("common.lua")

local before, after, count = "", "", 0
local run = os.time()  -- else each round would repeat the lines of the round before

function init(args)
  wrk.headers["Cookie"] = read_cookies(args[1])[1]
  wrk.headers["traceparent"] = "MARK"
  local whole = wrk.format()
  local from, to = whole:find("MARK", 1, true)
  before, after = whole:sub(1, from - 1) .. "00-4bf92f3577b34da6", whole:sub(to + 1)
end

function request()
  count = count + 1
  return string.format("%s%08x%08x-00f067aa0ba902b7-01%s", before, run, count, after)
end
