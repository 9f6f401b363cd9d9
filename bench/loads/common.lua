-- Shared by the loads: what every script prints when it ends.
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end

function read_cookies(path)
  local cookies = {}
  for line in io.lines(path) do cookies[#cookies + 1] = line end
  return cookies
end
