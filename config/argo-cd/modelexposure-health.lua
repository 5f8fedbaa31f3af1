-- How healthy a ModelExposure is, for Argo CD, by the conditions that kthena-bridge writes.
-- https://argo-cd.readthedocs.io/en/stable/operator-manual/health/#custom-health-checks

-- What the cluster gets over by itself. Every other reason waits for somebody who changes something.
local transient = { WaitingForModel = true, EndpointPickerNotReady = true, Pending = true }

local status = obj.status or {}
local generation = (obj.metadata or {}).generation or 0

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.type ~= nil then
    conditions[condition.type] = condition
  end
end

local function is(type, wanted)
  return conditions[type] ~= nil and conditions[type].status == wanted
end

local function health(state, type)
  local condition = conditions[type]
  return {
    status = state,
    message = type .. "=" .. (condition.status or "Unknown") .. ", "
      .. (condition.reason or "no reason") .. ": " .. (condition.message or ""),
  }
end

if (status.observedGeneration or -1) < generation then
  return { status = "Progressing", message = "kthena-bridge has not seen the present spec" }
end
if conditions.Accepted == nil or conditions.Programmed == nil then
  return { status = "Progressing", message = "kthena-bridge has not written its conditions yet" }
end

if is("Accepted", "False") then
  return health("Degraded", "Accepted")
elseif not is("Accepted", "True") and conditions.Accepted.reason ~= "NotReadable" then
  return health("Progressing", "Accepted")
end
-- What the operator may not read, the Gateway knows: Programmed is what it says.

if transient[conditions.Programmed.reason or ""] then
  return health("Progressing", "Programmed")
elseif is("Programmed", "False") then
  return health("Degraded", "Programmed")
end

-- A request that was sent counts for more than a Gateway's silence.
if is("Reachable", "False") then
  return health("Degraded", "Reachable")
elseif is("Programmed", "True") then
  return health("Healthy", "Programmed")
elseif is("Reachable", "True") then
  return health("Healthy", "Reachable")
end
return health("Progressing", "Programmed")
