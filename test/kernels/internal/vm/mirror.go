// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mirrorVariable names a Debian mirror for machines whose own apt sources have none.
const mirrorVariable = "TAPIO_KERNELS_MIRROR"

// mirrorFor returns the address of a Debian archive that has the suite. It is the one that the
// machine installs from, which works behind a proxy and for those who have a mirror of their own.
func mirrorFor(suite, etc string) (string, error) {
	main := os.Getenv(mirrorVariable)
	security := ""
	if main == "" {
		uris, err := sourceURIs(etc)
		if err != nil {
			return "", err
		}
		main, security = pickMirrors(uris)
	}
	if main == "" {
		return "", fmt.Errorf("no Debian mirror among the apt sources in %s: set %s to one (…/debian)", etc, mirrorVariable)
	}
	if !strings.HasSuffix(suite, "-security") {
		return main, nil
	}
	if security == "" {
		security = strings.TrimSuffix(main, "/") + "-security"
	}
	return security, nil
}

// pickMirrors tells Debian's archives from those of others by the last part of the path, which all
// mirrors keep.
func pickMirrors(uris []string) (main, security string) {
	for _, uri := range uris {
		uri = strings.TrimSuffix(uri, "/")
		if main == "" && strings.HasSuffix(uri, "/debian") {
			main = uri
		}
		if security == "" && strings.HasSuffix(uri, "/debian-security") {
			security = uri
		}
	}
	return main, security
}

// sourceURIs lists the addresses in apt's source files, in both of apt's formats.
func sourceURIs(etc string) ([]string, error) {
	files := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return nil, fmt.Errorf("list apt sources in %s: %w", etc, err)
		}
		files = append(files, found...)
	}
	var uris []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		uris = append(uris, addresses(string(text))...)
	}
	return uris, nil
}

// addresses picks what looks like an address from the lines that name archives. The rest of their
// grammar (options, suites, components) is of no interest here.
func addresses(text string) []string {
	var uris []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "deb" && !strings.EqualFold(fields[0], "URIs:") {
			continue
		}
		for _, field := range fields[1:] {
			// mirror+file: and the like name a list of mirrors: apt reads it just as here.
			if strings.Contains(field, ":/") {
				uris = append(uris, field)
			}
		}
	}
	return uris
}
