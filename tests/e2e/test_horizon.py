"""Horizon as its users see it, in a browser."""

from __future__ import annotations

import pytest
from stackspec.fixtures.browser import Window
from stackspec.fixtures.cloud import Tenant


def sign_in(window: Window, url: str, tenant: Tenant, password: str | None = None) -> None:
    """Fill the form of the first page and send it."""
    if not tenant.user_name:
        pytest.skip("needs admin rights: a user whose password is known is made for it")
    page = window.page
    access = tenant.connection.session.auth.get_access(tenant.connection.session)
    page.goto(f"{url}/auth/login/")
    page.fill("#id_domain", access.user_domain_name)
    page.fill("#id_username", tenant.user_name)
    page.fill("#id_password", tenant.password if password is None else password)
    page.click("#loginBtn")


def test_login(window: Window, horizon_url: str, member_tenant: Tenant) -> None:
    """A user comes in and sees the name and the project that are his."""
    sign_in(window, horizon_url, member_tenant)
    window.page.wait_for_url(f"{horizon_url}/project/**")
    window.picture("project overview after login")
    header = window.page.inner_text(".navbar")
    assert member_tenant.user_name in header, f"not in the head of the page: {header}"


def test_wrong_password_is_refused(window: Window, horizon_url: str, member_tenant: Tenant) -> None:
    """A wrong password leaves the user where he is, with the reason."""
    sign_in(window, horizon_url, member_tenant, "wrong")
    window.page.wait_for_selector("text=Invalid credentials.")
    assert "/auth/login" in window.page.url
    window.picture("a wrong password")
