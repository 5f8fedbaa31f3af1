-- How healthy an Application is. Argo CD has no health check of its own for it, and without one the sync waves of
-- Applications in an Application do not wait for each other.
-- https://argo-cd.readthedocs.io/en/stable/operator-manual/health/#argocd-app

local of = (obj.status or {}).health or {}
return { status = of.status or "Progressing", message = of.message or "" }
