// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger // import "github.com/tapio-io/otelcol-tapio/test/jaeger"

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Server is where Jaeger's query API is, as http://localhost:16686. The API is the one that the UI uses.
type Server string

// Trace as the API has it.
type Trace struct {
	ID        string             `json:"traceID"`
	Spans     []Span             `json:"spans"`
	Processes map[string]Process `json:"processes"`
	Warnings  []string           `json:"warnings"`
}

// Span of a Trace. Its times are in microseconds, the start since 1970.
type Span struct {
	ID         string      `json:"spanID"`
	Operation  string      `json:"operationName"`
	References []Reference `json:"references"`
	Start      int64       `json:"startTime"`
	Duration   int64       `json:"duration"`
	Tags       []Tag       `json:"tags"`
	Process    string      `json:"processID"` // a key of Processes
	Warnings   []string    `json:"warnings"`
}

// Reference to the parent (CHILD_OF), or to a span that is linked (FOLLOWS_FROM).
type Reference struct {
	Type    string `json:"refType"`
	TraceID string `json:"traceID"`
	SpanID  string `json:"spanID"`
}

// Process is a resource.
type Process struct {
	Service string `json:"serviceName"`
	Tags    []Tag  `json:"tags"`
}

// Tag is an attribute.
type Tag struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// Operation is a span's name, beside its kind.
type Operation struct {
	Name string `json:"name"`
	Kind string `json:"spanKind"`
}

// Dependency is how often spans of one service have parents of another, or of the same.
type Dependency struct {
	Parent string `json:"parent"`
	Child  string `json:"child"`
	Calls  int    `json:"callCount"`
}

// Search is what the UI's search form has. Empty fields are left out.
type Search struct {
	Service, Operation string
	Tags               map[string]string
	MinDuration        time.Duration
	Limit              int // 0: 1000 traces
}

// Tag is the value of a span's attribute, as text. Absent ones are empty.
func (s *Span) Tag(key string) string { return valueOf(s.Tags, key) }

// Tag is likewise, of the resource.
func (p Process) Tag(key string) string { return valueOf(p.Tags, key) }

func valueOf(tags []Tag, key string) string {
	for _, tag := range tags {
		if tag.Key == key {
			return fmt.Sprint(tag.Value)
		}
	}
	return ""
}

// Services that have sent spans.
func (s Server) Services(ctx context.Context) (names []string, err error) {
	return names, s.get(ctx, "/api/services", nil, &names)
}

// Operations of a service.
func (s Server) Operations(ctx context.Context, service string) (found []Operation, err error) {
	return found, s.get(ctx, "/api/operations", url.Values{"service": {service}}, &found)
}

// Dependencies of the last hour: the graph of the services.
func (s Server) Dependencies(ctx context.Context) (links []Dependency, err error) {
	return links, s.get(ctx, "/api/dependencies", url.Values{
		"endTs":    {strconv.FormatInt(time.Now().UnixMilli(), 10)},
		"lookback": {strconv.FormatInt(time.Hour.Milliseconds(), 10)},
	}, &links)
}

// Traces that a search finds, each with all of its spans.
func (s Server) Traces(ctx context.Context, search Search) (found []Trace, err error) {
	values := url.Values{"service": {search.Service}, "limit": {strconv.Itoa(search.limit())}}
	if search.Operation != "" {
		values.Set("operation", search.Operation)
	}
	if search.MinDuration > 0 {
		values.Set("minDuration", search.MinDuration.String())
	}
	if len(search.Tags) > 0 {
		tags, err := json.Marshal(search.Tags)
		if err != nil {
			return nil, err
		}
		values.Set("tags", string(tags))
	}
	return found, s.get(ctx, "/api/traces", values, &found)
}

func (s Search) limit() int {
	if s.Limit == 0 {
		return 1000
	}
	return s.Limit
}

// Trace with this id.
func (s Server) Trace(ctx context.Context, id string) (Trace, error) {
	var found []Trace
	if err := s.get(ctx, "/api/traces/"+url.PathEscape(id), nil, &found); err != nil {
		return Trace{}, err
	}
	if len(found) != 1 {
		return Trace{}, fmt.Errorf("ask %s for trace %s: there are %d", s, id, len(found))
	}
	return found[0], nil
}

// get asks for the data of an answer.
func (s Server) get(ctx context.Context, path string, values url.Values, data any) error {
	address := strings.TrimSuffix(string(s), "/") + path + "?" + values.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("ask Jaeger: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask Jaeger: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("ask Jaeger: get %s: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Jaeger: get %s: %s: %s", address, response.Status, body)
	}
	answer := struct {
		Data any `json:"data"`
	}{data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("ask Jaeger: read the answer to %s: %w", address, err)
	}
	return nil
}
