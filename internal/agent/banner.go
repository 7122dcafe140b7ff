package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/secgossip/secgossip/handler"
)

// banner says what runs, in Serf's manner.
func (a *Agent) banner() string {
	rows := [][2]string{
		{"Cluster", fmt.Sprintf("'%s' (%s)", a.identity.Trust.ClusterName(), a.identity.Trust.Cluster())},
		{"Node name", fmt.Sprintf("'%s'", a.identity.Identity.Name)},
		{"Bind addr", fmt.Sprintf("'%s'", netip.AddrPortFrom(a.plan.bind.Addr(), a.node.Port()))},
		{"Advertise addr", fmt.Sprintf("'%s'", a.node.Endpoint())},
		{"RPC addr", fmt.Sprintf("'%s'", a.rpc.Addr())},
		{"Encrypted", a.encrypted()},
		{"Handlers", a.handlers},
		{"Profile", string(a.node.Profile())},
		{"Certificate", "until " + a.identity.Credential.NotAfter.UTC().Format(time.RFC3339)},
	}
	out := "==> secgossip agent running!\n"
	for _, row := range rows {
		out += fmt.Sprintf("    %15s: %s\n", row[0], row[1])
	}
	return out + "\n==> Log data will now stream in as it occurs:\n\n"
}

// encrypted says what seals the packets.
func (a *Agent) encrypted() string {
	_, primary := a.node.EpochState()
	if primary == 0 {
		return "AES-256-GCM, no epoch yet"
	}
	return fmt.Sprintf("AES-256-GCM, epoch %d", primary)
}

// DefaultHandlerUser runs the handlers of an agent that is root and was told of
// no other user.
const DefaultHandlerUser = "nobody"

// handlersText says how many handlers there are, and who runs them.
func (s Settings) handlersText(plan plan) string {
	user := "the agent's own user"
	if os.Geteuid() == 0 {
		user = fmt.Sprintf("user '%s'", cmp.Or(s.HandlerUser, DefaultHandlerUser))
		if slices.ContainsFunc(plan.handlers, func(s handler.Spec) bool { return s.Settings.User != "" }) {
			user += " or one of their own"
		}
	}
	if len(plan.handlers) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d, as %s, sandbox %s", len(plan.handlers), user, s.HandlerSandbox)
}
