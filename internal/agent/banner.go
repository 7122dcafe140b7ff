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
		{"Handlers", a.handlerUser()},
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

// handlerUser says who runs handlers.
func (a *Agent) handlerUser() string {
	switch {
	case len(a.plan.handlers) == 0:
		return "none"
	case os.Geteuid() == 0 && slices.ContainsFunc(a.plan.handlers, func(s handler.Spec) bool { return s.Settings.User != "" }):
		return fmt.Sprintf("%d, as user '%s' or one of their own, sandbox %s", len(a.plan.handlers), cmp.Or(a.settings.HandlerUser, DefaultHandlerUser), a.settings.HandlerSandbox)
	case os.Geteuid() == 0:
		return fmt.Sprintf("%d, as user '%s', sandbox %s", len(a.plan.handlers), cmp.Or(a.settings.HandlerUser, DefaultHandlerUser), a.settings.HandlerSandbox)
	}
	return fmt.Sprintf("%d, as the agent's own user, sandbox %s", len(a.plan.handlers), a.settings.HandlerSandbox)
}
