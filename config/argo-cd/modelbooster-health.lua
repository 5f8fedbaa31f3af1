-- How healthy a ModelBooster is, for Argo CD. An exposed Model is judged by the conditions that kthena-bridge
-- writes, any other by those of Kthena.
-- https://argo-cd.readthedocs.io/en/stable/operator-manual/health/#custom-health-checks

-- What the cluster gets over by itself. Every other reason waits for somebody who changes something.
local transient = { WaitingForModel = true, EndpointPickerNotReady = true, Pending = true }
-- What no pod means.
local without_pods = { WaitingForModel = true, NoReadyEndpoints = true }

local metadata = obj.metadata or {}
local status = obj.status or {}
local generation = metadata.generation or 0

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

local function progressing(message)
  return { status = "Progressing", message = message }
end

if (status.observedGeneration or generation) < generation then
  return progressing("Kthena has not seen the present spec")
end

-- Only of v1.0.0 and newer: before, the spec has no number but the least and the most.
local scaled_to_zero = ((obj.spec or {}).backend or {}).replicas == 0
local suspended = { status = "Suspended", message = "scaled to zero: spec.backend.replicas is 0" }

if ((metadata.annotations or {})["kthena-bridge.io/expose"] or "false") == "false" then
  if scaled_to_zero then
    return suspended
  elseif is("Active", "True") then
    return health("Healthy", "Active")
  elseif is("Failed", "True") then
    -- Kthena never takes it back, so it counts only while the Model is not active.
    return health("Degraded", "Failed")
  elseif conditions.Active ~= nil then
    return health("Progressing", "Active")
  end
  return progressing("Kthena has not said yet whether the Model is active")
end

-- It proves that a change of the spec was seen. A change of annotations alone does not count the generation up.
for _, type in ipairs({ "Accepted", "Programmed", "Reachable" }) do
  local condition = conditions[type]
  if condition ~= nil and (condition.observedGeneration or generation) < generation then
    return progressing("kthena-bridge has not seen the present spec")
  end
end
if conditions.Accepted == nil or conditions.Programmed == nil then
  return progressing("kthena-bridge has not written its conditions yet")
end

if is("Accepted", "False") then
  return health("Degraded", "Accepted")
elseif conditions.Accepted.status == nil then
  return health("Progressing", "Accepted")
end
-- Unknown is what the operator may not read; Programmed is what the Gateway says.

local reason = conditions.Programmed.reason or ""
if scaled_to_zero and without_pods[reason] then
  return suspended
elseif transient[reason] then
  return health("Progressing", "Programmed")
elseif reason == "NoReadyEndpoints" and not is("Active", "True") then
  -- Kthena is at work on the pods.
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
