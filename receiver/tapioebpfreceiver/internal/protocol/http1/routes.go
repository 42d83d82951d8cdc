// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package http1 // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Routes are patterns of paths, as net/http's ServeMux has them: "/users/{id}", "/files/{path...}",
// and "/static/" for all below it. Of several that fit, the most specific one counts.
//
// It belongs to one goroutine.
type Routes struct {
	mux     *http.ServeMux // of isRoute for each
	request http.Request   // used again and again
	url     url.URL
}

// NewRoutes returns nil if there are no patterns. An error names the pattern.
func NewRoutes(patterns []string) (*Routes, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	r := &Routes{mux: http.NewServeMux()}
	r.request = http.Request{Method: http.MethodGet, URL: &r.url}
	for _, pattern := range patterns {
		if err := r.add(pattern); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Routes) add(pattern string) (err error) {
	if !strings.HasPrefix(pattern, "/") {
		return fmt.Errorf("%q must begin with a slash, as in /users/{id}", pattern)
	}
	defer func() { // that is how ServeMux refuses a pattern
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%q cannot be a pattern such as /users/{id}: %w", pattern, refusal(fmt.Sprint(reason)))
		}
	}()
	r.mux.Handle(pattern, isRoute{})
	return nil
}

// isRoute tells a pattern that a path fits from one that the ServeMux would only redirect to.
type isRoute struct{}

func (isRoute) ServeHTTP(http.ResponseWriter, *http.Request) {}

// ourLines are where we gave patterns to the ServeMux, of which users know nothing.
var ourLines = regexp.MustCompile(` \(registered at [^)]*\)`)

func refusal(reason string) error {
	line, _, _ := strings.Cut(reason, "\n")
	return errors.New(strings.TrimSuffix(ourLines.ReplaceAllString(line, ""), ":"))
}

// Match is the pattern that a path fits; empty if none does.
func (r *Routes) Match(path string) string {
	if r == nil || !strings.HasPrefix(path, "/") {
		return ""
	}
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return ""
	}
	r.url.Path, r.url.RawPath = unescaped, path
	handler, pattern := r.mux.Handler(&r.request)
	if _, ok := handler.(isRoute); !ok {
		return ""
	}
	return pattern
}
