// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command typecheck checks that packages would compile for other platforms, by their types and those of all that they import.
// To compile all that takes minutes for each.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

// mode has all types, of all that is imported, too, from the sources.
const mode = packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps |
	packages.NeedTypes | packages.NeedTypesInfo | packages.NeedTypesSizes | packages.NeedSyntax

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "typecheck:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", ".", "the module's folder")
	platforms := flag.String("platforms", "windows/amd64", "which platforms, with commas between them")
	flag.Parse()
	if flag.NArg() == 0 {
		return errors.New("usage: typecheck [-dir folder] [-platforms linux/386,windows/amd64] package ...")
	}
	for platform := range strings.SplitSeq(*platforms, ",") {
		if err := check(*dir, platform, flag.Args()); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
	}
	return nil
}

func check(dir, platform string, patterns []string) error {
	goos, goarch, found := strings.Cut(platform, "/")
	if !found {
		return errors.New("no platform: there is no slash in it")
	}
	fmt.Println(platform)
	loaded, err := packages.Load(&packages.Config{
		Mode: mode,
		Dir:  dir,
		Env:  append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOWORK=off"),
	}, patterns...)
	if err != nil {
		return fmt.Errorf("load %q: %w", patterns, err)
	}
	if len(loaded) == 0 {
		return fmt.Errorf("no package is %q", patterns)
	}
	if n := packages.PrintErrors(loaded); n > 0 {
		return fmt.Errorf("%d errors", n)
	}
	return nil
}
