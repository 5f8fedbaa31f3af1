// Pins the modules that carry the CRDs of Gateway API and of Istio. Nothing is built from them.
module kthena-bridge.io/e2e/parts/crds

go 1.26.0

require (
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.4.1
)
