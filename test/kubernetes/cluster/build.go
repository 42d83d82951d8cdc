// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs real Kubernetes for tests: a control plane on loopback, or a whole node in a
// network namespace of its own.
package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Enabled says whether tests with Kubernetes are asked for; Reason says what they need.
func Enabled() bool { return os.Getenv("TAPIO_KUBERNETES") == "1" }

// Reason is why a test is skipped.
const Reason = "set TAPIO_KUBERNETES=1 to run; it needs etcd, and some minutes to build Kubernetes once"

var versionLine = regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes v(\S+)`)

// Binary is a component of Kubernetes in the version that components/go.mod has. It is built once, into
// the user's cache.
func Binary(ctx context.Context, component string) (string, error) {
	components, err := componentsModule(ctx)
	if err != nil {
		return "", err
	}
	version, err := versionOf(components)
	if err != nil {
		return "", err
	}
	cache, err := cacheFolder(version)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, component)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, build(ctx, components, version, component, binary)
}

// componentsModule is the folder of the module that pins the components.
func componentsModule(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find this module: %w", err)
	}
	return filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "test", "kubernetes", "components"), nil
}

func versionOf(components string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(components, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read the version of Kubernetes: %w", err)
	}
	found := versionLine.FindSubmatch(mod)
	if found == nil {
		return "", errors.New("components/go.mod does not require k8s.io/kubernetes")
	}
	return string(found[1]), nil
}

func cacheFolder(version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for Kubernetes: %w", err)
	}
	folder := filepath.Join(cache, "otelcol-tapio", "kubernetes", "v"+version)
	return folder, os.MkdirAll(folder, 0o755)
}

// build renames what it has built, so that a build that was cut off leaves nothing half done, and two
// at a time do not disturb each other.
func build(ctx context.Context, components, version, component, binary string) error {
	folder, err := os.MkdirTemp(filepath.Dir(binary), "build-")
	if err != nil {
		return fmt.Errorf("build %s: %w", component, err)
	}
	defer os.RemoveAll(folder)
	built := filepath.Join(folder, component)
	// without these the components take each other for versions that do not fit together
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	const pkg = "k8s.io/component-base/version"
	flags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s", pkg, version, major, minor)
	command := exec.CommandContext(ctx, "go", "build", "-C", components, "-trimpath", "-ldflags", flags, "-o", built, "k8s.io/kubernetes/cmd/"+component)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", component, err, output)
	}
	if err := os.Rename(built, binary); err != nil {
		return fmt.Errorf("build %s: %w", component, err)
	}
	return nil
}
