// The runner of CNI plugins that tests use. A module of its own, since nobody who uses ours needs it.
module github.com/tapio-io/otelcol-tapio/test/cni/components

go 1.26.0

tool github.com/containernetworking/cni/cnitool

require github.com/containernetworking/cni v1.3.0 // indirect
