-- Sends the requests of a file in turn, over and over, and tells the outcome in one line.
-- The file, named after `--` on the command line, holds whole requests, each followed by the byte 30.

local requests = {}
local sent = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for request in file:read("*a"):gmatch("([^\30]+)\30") do
    requests[#requests + 1] = request
  end
  file:close()
  assert(#requests > 0, "no requests in " .. args[1])
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "load: requests=%d duration_us=%d p50_us=%d p99_us=%d p999_us=%d max_us=%d failed_sockets=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    latency.max, errors.connect + errors.read + errors.write + errors.timeout))
end
