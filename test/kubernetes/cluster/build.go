// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs real Kubernetes for tests: a control plane on loopback, or a whole node in a
// network namespace of its own.
package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/tapio-io/otelcol-tapio/test/components"
)

// Enabled says whether tests with Kubernetes are asked for; Reason says what they need.
func Enabled() bool { return os.Getenv("TAPIO_KUBERNETES") == "1" }

// Reason is why a test is skipped.
const Reason = "set TAPIO_KUBERNETES=1 to run; it needs etcd, and some minutes to build Kubernetes once"

// Binary is a component of Kubernetes in the version that components/go.mod has. It is built once, into
// the user's cache.
func Binary(ctx context.Context, component string) (string, error) {
	return components.Program{
		Name: component, Of: "kubernetes",
		Package: "k8s.io/kubernetes/cmd/" + component, Module: "k8s.io/kubernetes",
		Pins: "kubernetes/components", LinkerFlags: versionFlags,
	}.Binary(ctx)
}

// versionFlags tell the components their version: without, they take each other for versions that do not
// fit together.
func versionFlags(version string) string {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	const pkg = "k8s.io/component-base/version"
	return fmt.Sprintf("-X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s", pkg, version, major, minor)
}
