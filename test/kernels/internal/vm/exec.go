// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const initPackage = "github.com/tapio-io/otelcol-tapio/test/kernels/guest"

// output runs a command and returns what it printed. The error has what it complained about.
func output(cmd *exec.Cmd) ([]byte, error) {
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("run %q: %w: %s", cmd.Args, err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out, nil
}

// BuildInit builds the guest's first process.
func BuildInit(ctx context.Context, dir, arch string) (string, error) {
	file := filepath.Join(dir, "init-"+arch)
	return file, goTool(ctx, arch, "build", "-o", file, initPackage)
}

// BuildTest builds a package's test binary, and finds the folder that its tests run in.
func BuildTest(ctx context.Context, dir, arch, pkg string) (Binary, error) {
	listed, err := output(exec.CommandContext(ctx, "go", "list", "-f", "{{.ImportPath}}\n{{.Dir}}", pkg))
	if err != nil {
		return Binary{}, err
	}
	path, home, _ := strings.Cut(strings.TrimSpace(string(listed)), "\n")
	name := strings.ReplaceAll(strings.TrimPrefix(path, "github.com/tapio-io/otelcol-tapio/"), "/", ".")
	file := filepath.Join(dir, name+"-"+arch+".test")
	if err := goTool(ctx, arch, "test", "-c", "-o", file, pkg); err != nil {
		return Binary{}, err
	}
	if _, err := os.Stat(file); err != nil {
		return Binary{}, fmt.Errorf("package %s has no tests: %w", pkg, err)
	}
	return Binary{Name: name, File: file, Testdata: filepath.Join(home, "testdata")}, nil
}

// goTool runs the go command so that what it builds needs no library in the guest.
func goTool(ctx context.Context, arch string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	_, err := output(cmd)
	return err
}
