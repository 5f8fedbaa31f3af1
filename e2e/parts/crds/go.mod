// Pins the modules that carry the CRDs of Gateway API, of Istio and of the Prometheus operator. Nothing is built
// from them.
module kthena-bridge.io/e2e/parts/crds

go 1.26.0

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.4.1
)
