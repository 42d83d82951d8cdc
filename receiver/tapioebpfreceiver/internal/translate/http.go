// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"
)

// HTTPOptions say what is shown of HTTP exchanges.
type HTTPOptions struct {
	// Query says whether query strings are shown, redacted.
	Query bool
	// RequestHeaders and ResponseHeaders to show, in lower case.
	RequestHeaders, ResponseHeaders []string
	// Routes that servers have; nil: none are known.
	Routes *http1.Routes
	// ForwardedFor says whether a server's client is the first that X-Forwarded-For names.
	ForwardedFor bool
}

// otherMethod is the conventions' value for what they do not list.
const otherMethod = "_OTHER"

// schemeHTTP is what the bytes are that we read, whatever a proxy before us may have taken off.
const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	portOfHTTP  = 80
	portOfHTTPS = 443
)

// hidden stands for the value of a header that is a credential.
const hidden = "REDACTED"

// exchange is what the heads of an HTTP exchange say, in words of the conventions.
type exchange struct {
	event.HTTPExchange
	process  *identity.Process
	resource *identity.Resource

	method    string // of the conventions' list
	original  string // as sent, where that is not in the list
	version   string
	path      string
	query     string // redacted
	hasQuery  bool
	cut       bool   // the target is longer than what is here of it
	pathCut   bool   // and so is the path
	scheme    string // of the target, else http
	address   string // server.address
	port      uint16 // server.port; 0: not known
	host      string // as in the URL
	peer      string // network.peer.address
	userAgent string
	client    string // client.address of a server
	forwarded bool   // it is from X-Forwarded-For
	route     string
	errorType string
	headers   []header // to show

	parents []string // values of traceparent
	states  string   // of tracestate, as one list
}

// header is a field to show.
type header struct {
	key    string // attribute
	values []string
}

// httpReader reads heads. What comes again and again is kept as text.
type httpReader struct {
	options  HTTPOptions
	request  []shownHeader
	response []shownHeader
	texts    texts
	hosts    map[string]hostPort
	lastHost string // most often it comes again
	last     hostPort
	scratch  []byte
	exchange exchange // used again and again
}

// shownHeader is a header that the configuration asks for.
type shownHeader struct {
	name string // in lower case
	key  string // of its attribute
}

type hostPort struct {
	address string
	port    uint16
}

func newHTTPReader(options HTTPOptions) httpReader {
	return httpReader{
		options:  options,
		request:  shownHeaders("http.request.header.", options.RequestHeaders),
		response: shownHeaders("http.response.header.", options.ResponseHeaders),
		texts:    texts{},
		hosts:    map[string]hostPort{},
	}
}

func shownHeaders(prefix string, names []string) []shownHeader {
	shown := make([]shownHeader, 0, len(names))
	for _, name := range names {
		shown = append(shown, shownHeader{name: name, key: prefix + name})
	}
	return shown
}

// httpExchange: one span a side.
func (t *Translator) httpExchange(record []byte) (outcome, error) {
	e, err := event.DecodeHTTPExchange(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	x, err := t.http.read(e, &t.addresses)
	if err != nil {
		return absorbed, err
	}
	x.process, x.resource = p, t.index.ResourceOf(&e.Header, p)
	t.metrics.exchanged(x, t.wall(e.Header.Time))
	if t.signals.Metrics && !x.IsServer() {
		t.servers.note(x)
	}
	if !t.signals.Traces {
		return t.outcomeIf(false), nil
	}
	if t.leavesUntold() {
		t.leaveUntold(x)
		return t.outcomeIf(false), nil
	}
	return t.tellHTTP(x), nil
}

// leaveUntold has an exchange without a span. What it says of others is known all the same, and what waits for it goes on.
func (t *Translator) leaveUntold(x *exchange) {
	t.traces.Local(event.Address(x.Ends.LocalAddress))
	if x.IsServer() {
		noteServer(x.process)
	}
	t.traces.Untold(correlate.LinkOf(x.RequestSequence, x.RequestAcknowledged), x.IsServer())
}

func (t *Translator) tellHTTP(x *exchange) outcome {
	place, unit := t.placeHTTP(x)
	if unit == nil {
		span := t.builder.span(x.resource)
		t.fillHTTP(span, x)
		setPlace(span, &place)
		return carried
	}
	t.held++
	holder := t.newHeld(event.FamilyHTTP, 1, x.resource)
	t.fillHTTP(holder.span, x)
	unit.HoldBy(holder)
	return held
}

func (t *Translator) placeHTTP(x *exchange) (correlate.Place, *correlate.Unit) {
	t.traces.Local(event.Address(x.Ends.LocalAddress))
	request := correlate.Request{
		Link:     correlate.LinkOf(x.RequestSequence, x.RequestAcknowledged),
		Answered: x.Cause.Flags&event.CauseAnswered != 0,
		Peer:     event.Address(x.Ends.PeerAddress),
		Began:    x.RequestStart,
		Now:      x.Header.Time,
	}
	if len(x.parents) > 0 {
		request.Header = correlate.ParseContext(x.parents, x.states)
	}
	if x.IsServer() {
		noteServer(x.process)
		return t.traces.Server(&request)
	}
	request.Cause, request.Program = causeOf(&x.Cause), programOf(x.process, &x.Cause)
	return t.traces.Client(&request)
}

// --- what the heads say ------------------------------------------------------------------------

// read returns what is valid until the next call.
func (h *httpReader) read(e event.HTTPExchange, addresses *addressNames) (*exchange, error) {
	request, err := http1.ParseRequest(e.Request)
	if err != nil {
		return nil, fmt.Errorf("%w: head of a request: %w", event.ErrUndecodable, err)
	}
	x := &h.exchange
	*x = exchange{HTTPExchange: e, headers: x.headers[:0], scheme: schemeHTTP, parents: x.parents[:0]}
	x.method, x.original = h.methodOf(request.Method)
	x.version = h.versionOf(request.Version)
	x.errorType = errorOf(e.CutBy(), e.Status, e.IsServer())
	h.readFields(x, request.Fields)
	h.readTarget(x, &request)
	h.readResponse(x)
	h.fillAddresses(x, addresses)
	if e.IsServer() && !x.pathCut {
		x.route = h.options.Routes.Match(x.path)
	}
	return x, nil
}

// methodOf a request as the conventions want it, which compare with case.
func (h *httpReader) methodOf(method []byte) (name, original string) {
	switch string(method) {
	case "GET":
		return "GET", ""
	case "POST":
		return "POST", ""
	case "PUT":
		return "PUT", ""
	case "DELETE":
		return "DELETE", ""
	case "HEAD":
		return "HEAD", ""
	case "OPTIONS":
		return "OPTIONS", ""
	case "PATCH":
		return "PATCH", ""
	case "CONNECT":
		return "CONNECT", ""
	case "TRACE":
		return "TRACE", ""
	case "QUERY":
		return "QUERY", ""
	default:
		if !http1.IsMethod(method) { // it may be anything, such as a URL with a credential
			return otherMethod, ""
		}
		return otherMethod, h.texts.of(method)
	}
}

func (h *httpReader) versionOf(version []byte) string {
	if string(version) == "1.1" {
		return "1.1"
	}
	return h.texts.of(version)
}

// errorOf an exchange: what cut it off, else a status that is an error on its side.
func errorOf(cut string, status uint16, isServer bool) string {
	if cut != "" {
		return cut
	}
	if status >= 500 || status >= 400 && !isServer {
		return strconv.Itoa(int(status))
	}
	return ""
}

func (h *httpReader) readFields(x *exchange, fields http1.Fields) {
	for name, value := range fields.All() {
		switch {
		case http1.Is(name, "host"):
			if x.host == "" {
				x.host = h.texts.of(http1.WithoutCredentials(value))
			}
		case http1.Is(name, "user-agent"):
			if x.userAgent == "" {
				x.userAgent = h.texts.of(value)
			}
		case h.options.ForwardedFor && x.client == "" && x.IsServer() && http1.Is(name, "x-forwarded-for"):
			x.client = firstAddress(value)
			x.forwarded = x.client != ""
		case http1.Is(name, "traceparent"):
			x.parents = append(x.parents, string(value))
		case http1.Is(name, "tracestate"):
			x.addState(string(value))
		}
		h.show(x, h.request, name, value)
	}
}

// addState of a header that may come several times and is one list (RFC 9110, 5.3).
func (x *exchange) addState(value string) {
	if x.states != "" {
		x.states += ","
	}
	x.states += value
}

func (h *httpReader) readResponse(x *exchange) {
	if len(h.response) == 0 {
		return
	}
	for name, value := range http1.ResponseFields(x.Response).All() {
		h.show(x, h.response, name, value)
	}
}

// show keeps a field if the configuration asks for it. Credentials are hidden all the same: what is
// of interest is that they are there.
func (h *httpReader) show(x *exchange, shown []shownHeader, name, value []byte) {
	for i := range shown {
		if !http1.Is(name, shown[i].name) {
			continue
		}
		text := hidden
		if !identity.NamesSecret(shown[i].name) {
			text = identity.RedactText(strings.ToValidUTF8(string(value), "\uFFFD"))
		}
		x.addHeader(shown[i].key, text)
	}
}

func (x *exchange) addHeader(key, value string) {
	for i := range x.headers {
		if x.headers[i].key == key {
			x.headers[i].values = append(x.headers[i].values, value)
			return
		}
	}
	x.headers = append(x.headers, header{key: key, values: []string{value}})
}

// firstAddress of a list, which is the client that the first proxy saw; empty if it is none.
func firstAddress(list []byte) string {
	first, _, _ := strings.Cut(string(list), ",")
	first = strings.TrimSpace(first)
	if withPort, err := netip.ParseAddrPort(first); err == nil { // as some proxies have it
		return withPort.Addr().Unmap().WithZone("").String()
	}
	if inside, ok := strings.CutPrefix(first, "["); ok {
		first = strings.TrimSuffix(inside, "]")
	}
	address, err := netip.ParseAddr(first)
	if err != nil {
		return ""
	}
	return address.Unmap().WithZone("").String()
}

func (h *httpReader) readTarget(x *exchange, request *http1.Request) {
	target := http1.SplitTarget(request.Method, request.Target)
	x.cut = request.TargetCut
	x.pathCut = x.cut && !target.HasQuery
	if len(target.Authority) > 0 { // it goes before Host (RFC 9112, 3.2.2)
		x.host = h.texts.of(target.Authority)
	}
	if len(target.Scheme) > 0 {
		x.scheme = strings.ToLower(h.texts.of(target.Scheme))
	}
	x.path = h.texts.of(target.Path)
	if h.options.Query && target.HasQuery {
		x.hasQuery = true
		x.query = identity.RedactQuery(strings.ToValidUTF8(string(target.Query), "\uFFFD"), x.cut)
	}
}

// maxHosts are remembered; then the memory is begun anew.
const maxHosts = 4096

func (h *httpReader) splitHost(host string) hostPort {
	if host != h.lastHost {
		h.last, h.lastHost = h.findHost(host), host
	}
	return h.last
}

func (h *httpReader) findHost(host string) hostPort {
	if known, ok := h.hosts[host]; ok {
		return known
	}
	if len(h.hosts) >= maxHosts {
		clear(h.hosts)
	}
	var split hostPort
	split.address, split.port = http1.SplitHost(host)
	h.hosts[host] = split
	return split
}

// fillAddresses says who the server is: as the request names it, which is the same on both sides
// and behind any proxy, else by its address.
func (h *httpReader) fillAddresses(x *exchange, addresses *addressNames) {
	x.peer = addresses.of(x.Ends.PeerAddress)
	server, port := x.Ends.PeerAddress, x.Ends.PeerPort
	if x.IsServer() {
		server, port = x.Ends.LocalAddress, x.Ends.LocalPort
		x.client = cmp.Or(x.client, x.peer)
	}
	named := h.splitHost(x.host)
	if named.address == "" {
		x.address, x.port = addresses.of(server), port
		x.host = h.hostOf(x.address, port)
		return
	}
	x.address, x.port = named.address, named.port
	if x.port == 0 && !x.IsServer() {
		x.port = defaultPort(x.scheme)
	}
}

// defaultPort of a URL without one. A server cannot tell: a proxy may have taken TLS off.
func defaultPort(scheme string) uint16 {
	switch scheme {
	case schemeHTTP:
		return portOfHTTP
	case schemeHTTPS:
		return portOfHTTPS
	default:
		return 0
	}
}

// hostOf an address, as in a URL.
func (h *httpReader) hostOf(address string, port uint16) string {
	h.scratch = h.scratch[:0]
	if strings.Contains(address, ":") {
		h.scratch = append(append(append(h.scratch, '['), address...), ']')
	} else {
		h.scratch = append(h.scratch, address...)
	}
	if port != portOfHTTP {
		h.scratch = strconv.AppendUint(append(h.scratch, ':'), uint64(port), 10)
	}
	return h.texts.of(h.scratch)
}

// url is the whole URL of a client's request. That of CONNECT is only a host.
func (h *httpReader) url(x *exchange) string {
	if x.method == "CONNECT" || x.path != "" && x.path != "*" && x.path[0] != '/' {
		return "" // or a target that has none of the forms of RFC 9112, 3.2
	}
	h.scratch = append(h.scratch[:0], x.scheme...)
	h.scratch = append(append(h.scratch, "://"...), x.host...)
	if x.path != "*" { // OPTIONS * asks for the server as a whole (RFC 9112, 3.2.4)
		h.scratch = append(h.scratch, x.path...)
	}
	if x.hasQuery {
		h.scratch = append(append(h.scratch, '?'), x.query...)
	}
	return h.texts.of(h.scratch)
}

// --- the span ------------------------------------------------------------------------------------

func (t *Translator) fillHTTP(span ptrace.Span, x *exchange) {
	kind := ptrace.SpanKindClient
	if x.IsServer() {
		kind = ptrace.SpanKindServer
	}
	fillSpan(span, t.http.spanName(x), kind, t.wall(x.RequestStart), t.wall(x.End()))
	if x.errorType != "" {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
	t.describeHTTP(&t.list, x)
	t.list.moveTo(span.Attributes())
}

// spanName has few values, as the conventions want it.
func (h *httpReader) spanName(x *exchange) string {
	method := x.method
	if method == otherMethod {
		method = "HTTP"
	}
	if x.route == "" {
		return method
	}
	h.scratch = append(append(append(h.scratch[:0], method...), ' '), x.route...)
	return h.texts.of(h.scratch)
}

// httpAttributes is how many there are as a rule: room for more costs memory in every span.
func httpAttributes(x *exchange) int {
	n := 15
	if x.IsServer() {
		n = 17
	}
	for _, is := range [...]bool{x.userAgent != "", x.route != "", x.hasQuery, x.errorType != ""} {
		if is {
			n++
		}
	}
	return n + len(x.headers)
}

func (t *Translator) describeHTTP(attributes *attributeList, x *exchange) {
	attributes.EnsureCapacity(httpAttributes(x) + t.peers.attributes(x.Ends.PeerAddress))
	t.putOwner(attributes, x.Header.Pid, x.process)
	attributes.PutStr(attrHTTPRequestMethod, x.method)
	if x.original != "" {
		attributes.PutStr(attrHTTPRequestMethodOriginal, x.original)
	}
	t.putURL(attributes, x)
	attributes.PutStr(attrServerAddress, x.address)
	if x.port != 0 {
		attributes.PutInt(attrServerPort, int64(x.port))
	}
	attributes.PutStr(attrNetworkPeerAddress, x.peer)
	attributes.PutInt(attrNetworkPeerPort, int64(x.Ends.PeerPort))
	t.peers.put(attributes, x.Ends.PeerAddress, x.Ends.PeerPort)
	if x.version != "" {
		attributes.PutStr(attrNetworkProtocolName, schemeHTTP)
		attributes.PutStr(attrNetworkProtocolVersion, x.version)
	}
	if x.userAgent != "" {
		attributes.PutStr(attrUserAgentOriginal, x.userAgent)
	}
	attributes.PutInt(attrHTTPRequestBodySize, int64(x.RequestBodySize))
	if x.HasResponse() {
		attributes.PutInt(attrHTTPResponseStatusCode, int64(x.Status))
		attributes.PutInt(attrHTTPResponseBodySize, int64(x.ResponseBodySize))
		attributes.PutDouble(attrHTTPTimeToFirstByte, seconds(x.ResponseStart-x.RequestStart))
	}
	for _, header := range x.headers {
		attributes.putStrings(header.key, header.values)
	}
	if x.errorType != "" {
		attributes.PutStr(attrErrorType, x.errorType)
	}
}

// putURL: a client knows the whole URL, a server what it is asked for, and by whom.
func (t *Translator) putURL(attributes *attributeList, x *exchange) {
	if x.path != "" {
		attributes.PutStr(attrURLPath, x.path)
	}
	if x.cut {
		attributes.PutBool(attrHTTPTargetTruncated, true)
	}
	if !x.IsServer() {
		if url := t.http.url(x); url != "" {
			attributes.PutStr(attrURLFull, url)
		}
		return
	}
	attributes.PutStr(attrURLScheme, x.scheme)
	if x.hasQuery {
		attributes.PutStr(attrURLQuery, x.query)
	}
	if x.route != "" {
		attributes.PutStr(attrHTTPRoute, x.route)
	}
	attributes.PutStr(attrClientAddress, x.client)
	if !x.forwarded {
		attributes.PutInt(attrClientPort, int64(x.Ends.PeerPort))
	}
}
