// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package components builds programs of others that tests run. Each is built once in a version, into the
// user's cache.
package components // import "github.com/tapio-io/otelcol-tapio/test/components"

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Program is a main package of somebody else's module.
type Program struct {
	// Name is the binary's file name, and Of the folder's in the cache.
	Name, Of string
	// Package is the import path of the main package, in the module that is Module.
	Package, Module string
	// Pins is the folder, below test/, of the go.mod that has the module's version.
	Pins string
	// LinkerFlags of a version such as 1.2.3; nil: none but what strips the binary.
	LinkerFlags func(version string) string
}

// Binary is the built program. It is built if that was not done yet, which needs the network.
func (p Program) Binary(ctx context.Context) (string, error) {
	pins, err := p.pins(ctx)
	if err != nil {
		return "", err
	}
	version, err := p.version(pins)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for %s: %w", p.Name, err)
	}
	binary := filepath.Join(cache, "otelcol-tapio", p.Of, "v"+version, p.Name)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, p.build(ctx, pins, version, binary)
}

func (p Program) pins(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find this module: %w", err)
	}
	return filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "test", filepath.FromSlash(p.Pins)), nil
}

func (p Program) version(pins string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(pins, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read the version of %s: %w", p.Module, err)
	}
	line := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(p.Module) + ` v(\S+)`)
	found := line.FindSubmatch(mod)
	if found == nil {
		return "", fmt.Errorf("%s/go.mod does not require %s", p.Pins, p.Module)
	}
	return string(found[1]), nil
}

// build renames what it has built, so that a build that was cut off leaves nothing half done, and two
// at a time do not disturb each other.
func (p Program) build(ctx context.Context, pins, version, binary string) error {
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	folder, err := os.MkdirTemp(filepath.Dir(binary), "build-")
	if err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	defer os.RemoveAll(folder)
	built := filepath.Join(folder, p.Name)
	flags := "-s -w"
	if p.LinkerFlags != nil {
		flags += " " + p.LinkerFlags(version)
	}
	command := exec.CommandContext(ctx, "go", "build", "-C", pins, "-trimpath", "-ldflags", flags, "-o", built, p.Package)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", p.Name, err, output)
	}
	if err := os.Rename(built, binary); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	return nil
}
