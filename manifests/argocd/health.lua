-- Health of an AnomalyModel for Argo CD. Status words are the operator's own, which follow Argo Rollouts.
local health = {status = "Progressing", message = "waiting for the operator"}
if obj.status == nil or obj.status.phase == nil then
  return health
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "the operator has not seen the newest spec yet"
  return health
end
local words = {Healthy = "Healthy", Progressing = "Progressing", Paused = "Suspended", Degraded = "Degraded"}
health.status = words[obj.status.phase] or "Unknown"
health.message = obj.status.message or obj.status.phase
return health
