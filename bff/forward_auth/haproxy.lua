-- Asks the bff about each request and remembers its answer for the rules that follow. The configuration that "bff front-proxy haproxy"
-- prints says where by BFF_QUESTIONS, BFF_DOOR, BFF_ENDPOINT, BFF_SECRET and BFF_ANSWER (names of headers), and refuses whatever was not answered with
-- yes here, an error of this script included.

local questions, door = os.getenv("BFF_QUESTIONS"), os.getenv("BFF_DOOR")
local endpoint, secret = os.getenv("BFF_ENDPOINT"), os.getenv("BFF_SECRET")
local wanted = {}
for name in os.getenv("BFF_ANSWER"):gmatch("%S+") do wanted[#wanted + 1] = name:lower() end

local ours = {
  ["x-original-method"] = true, ["x-original-uri"] = true, ["bff-forward-auth"] = true, ["bff-route"] = true, ["bff-cache"] = true,
  ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["expect"] = true, ["te"] = true,
  ["keep-alive"] = true, ["proxy-connection"] = true, ["trailer"] = true, ["http2-settings"] = true,
}
local framing = { ["content-length"] = true, ["connection"] = true, ["transfer-encoding"] = true, ["keep-alive"] = true }

local function listed(values)
  local list = {}
  local index = 0
  while values[index] ~= nil do
    list[#list + 1] = values[index]
    index = index + 1
  end
  return list
end

local function answer(txn, status, headers, body)
  local reply = txn:reply()
  reply:set_status(status)
  for name, values in pairs(headers) do
    if not framing[name:lower()] then
      for _, value in ipairs(listed(values)) do reply:add_header(name, value) end
    end
  end
  if txn.sf:method() ~= "HEAD" then reply:set_body(body) end
  txn:done(reply)
end

local silent = '{"type":"urn:bff:error:temporarily_unavailable","status":503,"detail":"The sign-in service gave no answer.",'
  .. '"code":"temporarily_unavailable"}'

core.register_action("bff_ask", { "http-req" }, function(txn)
  local headers = {}
  for name, values in pairs(txn.http:req_get_headers()) do
    if not ours[name:lower()] then headers[name] = listed(values) end
  end
  headers["x-original-method"] = { txn.sf:method() }
  headers["x-original-uri"] = { txn.sf:pathq() }
  headers["bff-forward-auth"] = { secret }
  headers["bff-route"] = { txn:get_var("txn.bff_route") }
  local client = core.httpclient()
  local found = client:get({ url = "http://" .. door .. endpoint, headers = headers, timeout = 65000, dst = questions })
  if found == nil or found.status == nil or found.status == 0 then
    answer(txn, 503, { ["content-type"] = { [0] = "application/problem+json" }, ["cache-control"] = { [0] = "no-store" },
      ["bff-error"] = { [0] = "temporarily_unavailable" } }, silent)
    return
  end
  if found.status ~= 200 then
    answer(txn, found.status, found.headers, found.body or "")
    return
  end
  local cookie = found.headers["set-cookie"]
  if cookie ~= nil and cookie[0] ~= nil then txn:set_var("txn.bff_set_cookie", cookie[0]) end
  for _, name in ipairs(wanted) do
    local values = found.headers[name]
    if values ~= nil and values[0] ~= nil and values[0] ~= "" then
      txn:set_var("txn.bff_" .. name:gsub("-", "_"), values[0])
    end
  end
  txn:set_var("txn.bff_verdict", "yes")
end, 0)
