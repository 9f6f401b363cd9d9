-- All sessions in turn, with the header lines that Chromium sends on a fetch.
dofile("common.lua")

local requests, next_one = {}, 0

function init(args)
  local h = wrk.headers
  h["Connection"] = "keep-alive"
  h["sec-ch-ua-platform"] = '"Linux"'
  h["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
  h["Accept"] = "application/json"
  h["sec-ch-ua"] = '"Chromium";v="156", "Not=A?Brand";v="24"'
  h["sec-ch-ua-mobile"] = "?0"
  h["Sec-Fetch-Site"] = "same-origin"
  h["Sec-Fetch-Mode"] = "cors"
  h["Sec-Fetch-Dest"] = "empty"
  h["Referer"] = "http://" .. (h["Host"] or "127.0.0.1") .. "/orders/overview"
  h["Accept-Encoding"] = "gzip, deflate, br, zstd"
  h["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8"
  for i, cookie in ipairs(read_cookies(args[1])) do
    h["Cookie"] = cookie
    requests[i] = wrk.format()
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end
