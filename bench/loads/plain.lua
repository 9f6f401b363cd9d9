-- One session, the same bytes every time.
dofile("common.lua")

function init(args)
  wrk.headers["Cookie"] = read_cookies(args[1])[1]
end
