// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSplitTarget(t *testing.T) {
	for _, c := range []struct {
		method, target                 string
		scheme, authority, path, query string
		hasQuery                       bool
	}{
		{"GET", "/", "", "", "/", "", false},
		{"GET", "/a/b?c=d?e", "", "", "/a/b", "c=d?e", true},
		{"GET", "/a?", "", "", "/a", "", true},
		{"GET", "//a", "", "", "//a", "", false},
		{"GET", "/a?u=http://b/", "", "", "/a", "u=http://b/", true},
		{"OPTIONS", "*", "", "", "*", "", false},
		{"GET", "http://a:8080/b?c", "http", "a:8080", "/b", "c", true},
		{"GET", "https://user:pass@a/b", "https", "a", "/b", "", false},
		{"GET", "http://a", "http", "a", "/", "", false},
		{"GET", "http://a?b", "http", "a", "/", "b", true},
		{"GET", "http://us@er:pa@a/", "http", "a", "/", "", false},
		{"GET", "ht tp://a/", "", "", "ht tp://a/", "", false},
		{"GET", "a", "", "", "a", "", false},
		{"GET", "user:pass@a/b?c@d", "", "", "a/b", "c@d", true},
		{"GET", "ht_tp://user:pass@a/b", "", "", "a/b", "", false},
		{"GET", "/user:pass@a/b", "", "", "/user:pass@a/b", "", false},
		{"GET", "", "", "", "", "", false},
		{"CONNECT", "a:443", "", "a:443", "", "", false},
		{"CONNECT", "u:p@a:443", "", "a:443", "", "", false},
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			sent := []byte(c.target)
			got := SplitTarget([]byte(c.method), sent)
			assert.Equal(t, c.scheme, string(got.Scheme))
			assert.Equal(t, c.authority, string(got.Authority))
			assert.Equal(t, c.path, string(got.Path))
			assert.Equal(t, c.query, string(got.Query))
			assert.Equal(t, c.hasQuery, got.HasQuery)
			assert.Equal(t, c.target, string(sent), "the record's bytes stay as they are")
		})
	}
}

func TestSplitHost(t *testing.T) {
	for authority, want := range map[string]struct {
		address string
		port    uint16
	}{
		"":                {"", 0},
		"a":               {"a", 0},
		"a:80":            {"a", 80},
		"a:65535":         {"a", 65535},
		"a:65536":         {"a", 0},
		"a:":              {"a", 0},
		"a:b":             {"a", 0},
		"[::1]":           {"::1", 0},
		"[::1]:8080":      {"::1", 8080},
		"192.0.2.1:8080":  {"192.0.2.1", 8080},
		"[fe80::1%25e]:1": {"fe80::1%25e", 1},
	} {
		address, port := SplitHost(authority)
		assert.Equal(t, want.address, address, authority)
		assert.Equal(t, want.port, port, authority)
	}
}

func TestRoutes(t *testing.T) {
	routes, err := NewRoutes([]string{"/users/{id}", "/users/{id}/orders/{order}", "/users/me", "/files/{path...}", "/static/", "/exact/{$}"})
	require.NoError(t, err)
	for path, want := range map[string]string{
		"/users/42":          "/users/{id}",
		"/users/4%2F2":       "/users/{id}",
		"/users/me":          "/users/me",
		"/users/":            "",
		"/users/42/":         "",
		"/users/42/orders/7": "/users/{id}/orders/{order}",
		"/files/a/b/c":       "/files/{path...}",
		"/static/a":          "/static/",
		"/exact/":            "/exact/{$}",
		"/exact/a":           "",
		"/":                  "",
		"":                   "",
		"*":                  "",
		"users/42":           "",
		"/users/%zz":         "",
		// what the ServeMux redirects to is another path
		"/static":         "",
		"/users//42":      "",
		"//users/42":      "",
		"/users/./42":     "",
		"/a/../users/42":  "",
		"/users/../files": "",
	} {
		assert.Equal(t, want, routes.Match(path), path)
	}
}

func TestNoRoutes(t *testing.T) {
	routes, err := NewRoutes(nil)
	require.NoError(t, err)
	assert.Nil(t, routes)
	assert.Empty(t, routes.Match("/a"))
}

func TestNewRoutesRefuses(t *testing.T) {
	for _, patterns := range [][]string{{""}, {"GET /a"}, {"host/a"}, {"/a/{"}, {"/a", "/a"}, {"/{a}/b", "/b/{a}"}, {"/{a...}/b"}} {
		_, err := NewRoutes(patterns)
		assert.ErrorContains(t, err, patterns[len(patterns)-1])
		assert.NotContains(t, err.Error(), ".go:")
	}
}
