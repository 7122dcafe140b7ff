package handler

import (
	"os/user"
	"strings"
	"testing"
)

func TestRootIsNeverWhoHandlersRunAs(t *testing.T) {
	for _, name := range []string{"root", "0"} {
		if who, err := chooseAccount(name, 0, 0, nil); err == nil || !strings.Contains(err.Error(), "never run") {
			t.Errorf("%q: %+v, %v, want a refusal", name, who, err)
		}
	}
	for _, ids := range [][2]int{{0, 0}, {0, 100}, {100, 0}} {
		if err := refuseRoot("x", ids[0], ids[1]); err == nil {
			t.Errorf("uid %d, gid %d were accepted", ids[0], ids[1])
		}
	}
	if err := refuseRoot("x", 100, 100); err != nil {
		t.Errorf("an ordinary user: %v", err)
	}
}

func TestUnknownHandlerUserIsRefused(t *testing.T) {
	for _, name := range []string{"no-such-user", "4123456789", "-1", "no\x00body", "nobody ", "0x10"} {
		if who, err := chooseAccount(name, 0, 0, nil); err == nil {
			t.Errorf("%q: %+v, want an error", name, who)
		}
	}
}

func TestRootAgentRunsHandlersAsNobody(t *testing.T) {
	nobody, err := user.Lookup(defaultUser)
	if err != nil {
		t.Skip("there is no user nobody")
	}
	for _, name := range []string{"", "nobody", nobody.Uid} {
		who, err := chooseAccount(name, 0, 0, []int{0, 4})
		if err != nil || !who.switched || who.uid == 0 || who.gid == 0 || len(who.groups) != 0 {
			t.Errorf("%q: %+v, %v", name, who, err)
		}
	}
}

func TestOrdinaryAgentCannotChooseAnotherUser(t *testing.T) {
	nobody, err := user.Lookup(defaultUser)
	if err != nil {
		t.Skip("there is no user nobody")
	}
	for _, name := range []string{"nobody", nobody.Uid, "root"} {
		if who, err := chooseAccount(name, 54321, 54321, nil); err == nil || !strings.Contains(err.Error(), "only an agent that is root") {
			t.Errorf("%q: %+v, %v, want a refusal", name, who, err)
		}
	}
	who, err := chooseAccount("", 54321, 54322, []int{7})
	if err != nil || who.switched || who.uid != 54321 || who.gid != 54322 || len(who.groups) != 1 {
		t.Errorf("itself: %+v, %v", who, err)
	}
}
